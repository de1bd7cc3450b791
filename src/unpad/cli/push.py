"""`unpad push FOLDER ID`: send a folder to the Hub, and say how it is loaded from there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unpad.cli._options import _OFF, _ON, Command, options_of
from unpad.errors import ArgumentError, nearest

_TYPES = ("model", "dataset")


@dataclass
class PushOptions:
    """What is made of the folder on the Hub."""

    type: str = "model"
    """model or dataset."""
    private: bool = False
    """Make the repository private, when it is made; one that is public already is refused."""
    message: str = "Upload with unpad"
    """Title of the commit."""
    revision: str | None = None
    """Branch to send to, made when it is missing; null: main."""
    token: str | None = None
    """Access token; null: HF_TOKEN, or that of unpad login."""


def command() -> Command:
    """The command line."""
    about = "Send a folder to the Hub as one commit: unpad push FOLDER ID. Checkpoint folders and training states in it stay here."
    given = ("folder", "the folder; behind it the ID, owner/name, or name for the owner of the token")
    return Command("push", about, {"options": options_of(PushOptions)}, given, aliases={}, with_config=False)


def run(argv: Sequence[str]) -> int:
    """Run the command; returns 0."""
    folder, repo_id, rest = _split(argv)
    options = command().parse([folder, *rest] if folder else rest)
    if not repo_id:
        raise ArgumentError(
            "unpad push: ID is missing: owner/name, or name for the owner of the token (see: unpad push --help)"
        )
    if options["type"] not in _TYPES:
        raise ArgumentError(
            f"unpad push: --type={options['type']!r} is not one of {', '.join(_TYPES)}{nearest(options['type'], _TYPES)}"
        )
    from unpad.hub.push import push_folder

    made = push_folder(
        folder, repo_id, commit_message=options["message"], repo_type=options["type"], private=options["private"] or None,
        token=options["token"], revision=options["revision"],
    )  # fmt: skip
    print(f"sent         {made.commit_url}")
    revision = f", revision={options['revision']!r}" if options["revision"] else ""
    call = "load_dataset" if options["type"] == "dataset" else f"{_loader(Path(folder))}.from_pretrained"
    print(f'next         unpad.{call}("{made.repo_url.repo_id}"{revision})')
    return 0


def _split(argv: Sequence[str]) -> tuple[str, str, list[str]]:
    """The folder, the id, and the options: the first two words that belong to no option."""
    line, rest = command(), list(argv)
    words: list[str] = []
    flags: list[str] = []
    while rest:
        token = rest.pop(0)
        if not token.startswith("-") and len(words) < 2:
            words.append(token)
            continue
        flags.append(token)
        option = line.options.get(token.removeprefix("--").replace("-", "_"))
        if rest and option is not None and (option.kind is not bool or rest[0].lower() in (*_ON, *_OFF)):
            flags.append(rest.pop(0))
    folder, repo_id = [*words, "", ""][:2]
    return folder, repo_id, flags


def _loader(folder: Path) -> str:
    """The Auto class for what is in a folder."""
    import unpad

    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        name = f"AutoModelFor{str(config['architectures'][0]).partition('For')[2]}"
    except FileNotFoundError:
        return "AutoTokenizer" if (folder / "tokenizer.json").is_file() else "AutoModel"
    except (OSError, ValueError, LookupError, TypeError):
        name = ""
    return name if name in unpad.PUBLIC else "AutoModel"
