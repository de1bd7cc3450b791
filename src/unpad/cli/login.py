"""`unpad login`: check an access token of the Hub and keep it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unpad.cli._options import Command, options_of


@dataclass
class LoginOptions:
    """Which token."""

    token: str | None = None
    """The token; null: asked for without showing it, or read from a pipe, which leaves it out of the shell's history."""


def command() -> Command:
    about = "Check an access token with the Hub (HF_ENDPOINT, or huggingface.co) and keep it on this machine."
    return Command("login", about, {"options": options_of(LoginOptions)}, aliases={}, with_config=False)


def run(argv: Sequence[str]) -> int:
    token = command().parse(argv)["token"]
    from huggingface_hub import constants

    from unpad.errors import listing
    from unpad.hub.account import login, role, writable

    found = login(token, force=True)
    kind = role(found)
    may = {"write": "read and write", "fineGrained": "do what was chosen for it"}.get(kind, kind)
    print(f"logged in    {found['name']} at {constants.ENDPOINT}; this token may {may or 'do what the Hub says'}")
    if kind == "read":
        print("next         load models by id; to send one, log in with a token with write rights")
    else:
        print(f"next         unpad push FOLDER {found['name']}/NAME (owners: {listing(writable(found))})")
    return 0
