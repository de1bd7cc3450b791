"""`unpad push FOLDER ID`: send a folder to the Hub, and say how it is loaded from there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unpad.cli._options import Command, options_of
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
    about = "Send a folder to the Hub as one commit: unpad push FOLDER ID. Checkpoint folders and training states in it stay here."
    given = {"folder": "the folder", "id": "owner/name, or name for the owner of the token"}
    return Command("push", about, {"options": options_of(PushOptions)}, given, aliases={}, with_config=False)


def run(argv: Sequence[str]) -> int:
    options = command().parse(argv)
    folder = options["folder"]
    if options["type"] not in _TYPES:
        near = nearest(options["type"], _TYPES)
        raise ArgumentError(f"unpad push: --type={options['type']!r} is not one of {', '.join(_TYPES)}{near}")
    from unpad.hub.push import push_folder

    if options["type"] == "model":
        _address(Path(folder), options["id"], options["token"])
    made = push_folder(
        folder, options["id"], commit_message=options["message"], repo_type=options["type"], private=options["private"] or None,
        token=options["token"], revision=options["revision"],
    )  # fmt: skip
    print(f"sent         {made.commit_url}")
    revision = f", revision={options['revision']!r}" if options["revision"] else ""
    call = "load_dataset" if options["type"] == "dataset" else f"{_loader(Path(folder))}.from_pretrained"
    print(f'next         unpad.{call}("{made.repo_url.repo_id}"{revision})')
    return 0


def _address(folder: Path, name: str, token: str | None) -> None:
    """Let a card that nobody wrote or changed say how the model is loaded from the Hub, not from this folder."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = (folder / "README.md").read_bytes().decode()
        from unpad.checkpoint.card import addressed, unchanged, write_card
        from unpad.hub.account import get_full_repo_name

        if unchanged(text):
            write_card(folder, addressed(text, name if "/" in name else get_full_repo_name(name, token=token)))


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
