"""Options of commands: flags, YAML files and help from dataclasses, and one clear line for each mistake in them.

A dataclass field is the single source of an option: its name is the flag and the YAML key, its type what is allowed, the
text under it the help. Command lines are normalised before jsonargparse sees them: dashes count as underscores, old
spellings become today's, a switch needs no value (`--fp16`, `--no_fp16`), and flags win over `--config` wherever it stands.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jsonargparse
from docstring_parser import parse_from_object

from unpad.compat import ALIASES
from unpad.errors import ArgumentError, nearest

_ON, _OFF = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_NOTHING = ("none", "null", "")
_KINDS = {float: "a number", int: "a whole number", bool: "true or false", str: "text", list: "a list of words (a,b,c)"}


@dataclass(frozen=True)
class Option:
    """One option: its name, type, default and meaning."""

    name: str
    kind: Any
    """float, int, bool, str, or list (of words)."""
    optional: bool
    """Whether null is allowed."""
    default: Any
    help: str

    @property
    def allowed(self) -> str:
        """What may be given, in words."""
        return _KINDS[self.kind] + (" or null" if self.optional else "")

    @property
    def type(self) -> Any:
        """The type as jsonargparse takes it."""
        if self.kind is str:  # null passes where it is the default, and "#" or "NULL" in a YAML file stay text
            return str
        kind = typing.Union[str, list[str]] if self.kind is list else self.kind  # noqa: UP007
        return typing.Optional[kind] if self.optional else kind  # noqa: UP045


def options_of(cls: type, **defaults: Any) -> list[Option]:
    """The options of a dataclass; `defaults` replace those of the class (None makes the option optional)."""
    hints = typing.get_type_hints(cls)
    texts = {p.arg_name: " ".join((p.description or "").split()) for p in parse_from_object(cls).params}
    found = []
    for field in dataclasses.fields(cls):
        hint, default = hints[field.name], defaults.get(field.name, field.default)
        union = () if typing.get_origin(hint) is list else typing.get_args(hint)
        kind = next((k for k in union if k is not type(None)), hint)
        kind = list if typing.get_origin(kind) is list else kind
        found.append(Option(field.name, kind, default is None or type(None) in union, default, texts[field.name]))
    return found


class Command:
    """The command line of one command: its positional arguments (name -> help) and groups of options, each from a dataclass."""

    def __init__(
        self, name: str, about: str, groups: Mapping[str, Sequence[Option]], positional: Mapping[str, str] = MappingProxyType({}),
        aliases: Mapping[str, str] = ALIASES["TrainingArguments"], with_config: bool = True,
    ) -> None:  # fmt: skip
        self.name, self.positional, self.aliases = name, positional, aliases
        self.options = {option.name: option for group in groups.values() for option in group}
        self._parser = _Parser(prog=f"unpad {name}", description=about, exit_on_error=False, allow_abbrev=False)
        for word, meaning in positional.items():
            self._parser.add_argument(word, type=str, help=meaning)
        if with_config:
            self._parser.add_argument(
                "--config", action=jsonargparse.ActionConfigFile,
                help="YAML file with any of the options below by name; options on the command line win over it.",
            )  # fmt: skip
        self.with_config = with_config
        for title, options in groups.items():
            group = self._parser.add_argument_group(title)
            for option in options:
                group.add_argument(f"--{option.name}", type=option.type, default=option.default, help=option.help)

    def parse(self, argv: Sequence[str]) -> dict[str, Any]:
        """Every option (and positional argument) by name. `--help` prints and exits the process with 0.

        Raises ArgumentError: an unknown option or YAML key (names the nearest), a value of the wrong type (says what is allowed).
        """
        flags, words = self._normal(argv)
        configs = [flag for flag in flags if flag.startswith("--config=")]
        flags = [flag for flag in flags if flag not in configs]
        if len(words) > len(self.positional):
            extra = words[len(self.positional)]
            raise self._error(f"{extra!r} is one word too many; options are written --name value{self._see}")
        files = ", ".join(flag.removeprefix("--config=") for flag in configs)
        try:
            parsed = self._parser.parse_args([*configs, *flags, *words], env=False)
        except UnicodeDecodeError:
            raise self._error(f"{files} is not a text file; give a YAML file of options") from None
        except jsonargparse.ArgumentError as error:
            raise self._error(self._reason(str(error), files)) from None
        values = {key: value for key, value in parsed.as_dict().items() if key != "config"}
        for name, _, value in (flag[2:].partition("=") for flag in flags):
            option = self.options.get(name)
            if option is not None and option.kind is str:  # text stands as it is; of all words only "null" means none
                values[name] = None if option.optional and value == "null" else value
        for name, option in self.options.items():
            if option.kind is list and isinstance(values[name], str):
                values[name] = [word.strip() for word in values[name].split(",") if word.strip()]
        return values

    @property
    def _see(self) -> str:
        return f" (see: unpad {self.name} --help)"

    def _error(self, text: str) -> ArgumentError:
        return ArgumentError(f"unpad {self.name}: {text}")

    def _normal(self, argv: Sequence[str]) -> tuple[list[str], list[str]]:
        """The command line as `--name=value` flags and other words."""
        flags, words = [], []
        rest = list(argv)
        while rest:
            token = rest.pop(0)
            if token in ("-h", "--help"):
                return ["--help"], []
            if not token.startswith("--") or token == "--":
                if token.startswith("-") and len(token) > 1 and token != "--":
                    raise self._error(f"there is no option {token!r}; options are written --name value{self._see}")
                words.append(token)
                continue
            given, has_value, value = token[2:].partition("=")
            name = given.replace("-", "_")
            name = self.aliases.get(name, name)
            if name == "print_config" and self.with_config:
                flags.append(token)
                continue
            option, off = self.options.get(name), self.options.get(name.removeprefix("no_"))
            if option is None and off is not None and off.kind is bool and not has_value:
                flags.append(f"--{off.name}=false")
                continue
            if option is None and not (name == "config" and self.with_config):
                near = re.sub("'(.*)'", r"--\1", nearest(name, self.options))
                raise self._error(f"there is no option --{given}{near}{self._see}")
            if not has_value:
                if option is not None and option.kind is bool:
                    value = rest.pop(0) if rest and rest[0].lower() in (*_ON, *_OFF) else "true"
                elif not rest or self._is_flag(rest[0]):
                    allowed = "a YAML file" if option is None else option.allowed
                    raise self._error(f"--{name} needs a value: {allowed}")
                else:
                    value = rest.pop(0)
            flags.append(f"--{name}={self._plain(option, value)}")
        return flags, words

    def _is_flag(self, token: str) -> bool:
        name = token[2:].partition("=")[0].replace("-", "_")
        return token.startswith("--") and (name in self.options or name in ("config", "help"))

    def _plain(self, option: Option | None, value: str) -> str:
        """The value in YAML's spelling."""
        if option is None:
            return value
        if option.optional and option.kind is not str and value.lower() in _NOTHING:
            return "null"
        if option.kind is bool and value.lower() in (*_ON, *_OFF):
            return "true" if value.lower() in _ON else "false"
        return value

    def _reason(self, text: str, configs: str) -> str:
        """What is wrong, in our words instead of those of jsonargparse."""
        if found := re.search(r"Option '(\w+)' is not accepted", text):
            return f"{configs}: there is no option {found[1]!r}{nearest(found[1], self.options)}{self._see}"
        if found := re.search(r'Parser key "(\w+)"', text):
            name, option = found[1], self.options.get(found[1])
            if option is None:
                return f"--{name}: {one_line(text.split(':', 1)[1])}; give a YAML file of options"
            value = re.search(r"(?:Got value|Given value): (.*)", text)
            shown = value[1].strip() if value else "what is given"
            default = "null" if option.default is None else option.default
            return f"{name}={shown!r} is not {option.allowed}; the default is {default}"
        if found := re.search(r"are required: (\w+)", text):
            return f"{found[1].upper()} is missing: {self.positional[found[1]]}{self._see}"
        if configs:
            return f"{configs} is not a YAML file of options: {one_line(text)}"
        return f"{one_line(text)}{self._see}"


class _Parser(jsonargparse.ArgumentParser):
    """A parser whose usage line does not repeat every option."""

    def format_help(self, *args: Any, **options: Any) -> str:
        text = super().format_help(*args, **options)
        words = "".join(f" {a.dest.upper()}" for a in self._actions if not a.option_strings)
        text = re.sub(r"(--\w+) \w+, \1\+ (\w+)", r"\1 \2", text)
        text = text.replace("Union[str, list[str], null]", "words a,b,c or null")
        return re.sub(r"\Ausage:.*?\n\n", f"usage: {self.prog}{words} [options]\n\n", text, flags=re.DOTALL)


def one_line(text: Any, most: int = 200) -> str:
    """A value as one line, cut after `most` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else line[: most - 3] + "..."
