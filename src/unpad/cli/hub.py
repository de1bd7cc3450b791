"""`unpad hub serve FOLDER` and `unpad hub token FOLDER`: a Hub of one's own, and the tokens that let people in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unpad.cli._options import Command, options_of
from unpad.errors import ArgumentError, nearest


@dataclass
class ServeOptions:
    """Where it listens."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in, and needs at least one token."""
    port: int = 8090
    """Port to listen on; 0 takes a free one."""
    lfs_from_mb: int = 32
    """MiB from which on clients upload a file by LFS, in pieces; smaller ones travel inside the commit."""


@dataclass
class TokenOptions:
    """What a new token is for."""

    name: str | None = None
    """Whose token it is: the author of commits, and the owner of repositories that are named without one."""
    scope: str = "read"
    """read, or write for reading and writing."""
    remove: bool = False
    """Take the token of that name back, instead of making one."""


_ACTIONS = {
    "serve": ("Serve a folder of models and data sets to clients of the Hugging Face Hub, until Ctrl-C.", ServeOptions),
    "token": ("Make an access token and print it, once (only its hash is kept), or take one back.", TokenOptions),
}


def command(action: str | None = None) -> Command:
    """The command line of an action, or of all."""
    if action:
        about, options = _ACTIONS[action]
        folder = ("folder", "the folder that holds the Hub; made when it is missing")
        return Command(f"hub {action}", about, {"options": options_of(options)}, folder, aliases={}, with_config=False)
    about = (
        "A Hub of your own, in a folder. unpad hub serve FOLDER serves it; "
        "unpad hub token FOLDER makes an access token."
    )
    groups = {name: options_of(options) for name, (_, options) in _ACTIONS.items()}
    return Command(
        "hub", about, groups, ("action", "serve or token, and then the folder"), aliases={}, with_config=False
    )


def run(argv: Sequence[str]) -> int:
    """Run the command; returns 0."""
    if not argv or argv[0] not in _ACTIONS:
        given = command().parse(argv[:1])["action"]
        raise ArgumentError(
            f"unpad hub: there is no {given!r}{nearest(given, _ACTIONS)} (there are: {', '.join(_ACTIONS)})"
        )
    action = argv[0]
    options = command(action).parse(argv[1:])
    from unpad.serve.server import open_store, serve

    if action == "token":
        if not options["name"]:
            raise ArgumentError("unpad hub token: give --name, whose token it is")
        store = open_store(options["folder"])
        if options["remove"]:
            store.remove_token(options["name"])
        else:
            print(store.add_token(options["name"], options["scope"]))
        return 0
    if not 1 <= options["lfs_from_mb"] <= 1024 or not 0 <= options["port"] < 1 << 16:
        raise ArgumentError("unpad hub serve: --lfs_from_mb is 1 to 1024, --port 0 to 65535")
    serve(options["folder"], options["host"], options["port"], options["lfs_from_mb"] << 20)
    return 0
