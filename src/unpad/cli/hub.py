"""`unpad hub serve FOLDER`, `unpad hub token FOLDER` and `unpad hub prune FOLDER`: a Hub of one's own, the tokens that
let people in, and the room that deleted files take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
    """MiB from which on clients upload a file on its own (1 to 1024); smaller ones travel inside the commit."""
    timeout: int = 60
    """Seconds (1 to 3600) after which a client that sends nothing is left."""


@dataclass
class TokenOptions:
    """What a new token is for."""

    name: str | None = None
    """Whose token it is: the author of commits, and the owner of repositories that are named without one."""
    scope: str = "read"
    """read, or write for reading and writing."""
    days: int = 0
    """Days after which the token ends; 0 for never."""
    remove: bool = False
    """Take the token of that name back, instead of making one."""


@dataclass
class PruneOptions:
    """Nothing can be chosen."""


_ACTIONS = {
    "serve": ("Serve a folder of models and data sets to clients of the Hugging Face Hub, until Ctrl-C.", ServeOptions),
    "token": ("Make an access token and print it, once (only its hash is kept), or take one back.", TokenOptions),
    "prune": (
        "Free the room of files that no branch or tag holds any longer. The server must be stopped.",
        PruneOptions,
    ),
}


def command(action: str | None = None) -> Command:
    """The command line of an action, or of all."""
    if action:
        about, options = _ACTIONS[action]
        made = "" if action == "prune" else "; made when it is missing"
        folder = {"folder": f"the folder that holds the Hub{made}"}
        return Command(f"hub {action}", about, {"options": options_of(options)}, folder, aliases={}, with_config=False)
    about = (
        "A Hub of your own, in a folder. unpad hub serve FOLDER serves it; "
        "unpad hub token FOLDER makes an access token; unpad hub prune FOLDER frees what deleted files take."
    )
    groups = {name: options_of(options) for name, (_, options) in _ACTIONS.items()}
    words = {"action": "serve, token or prune, and then the folder"}
    return Command("hub", about, groups, words, aliases={}, with_config=False)


def run(argv: Sequence[str]) -> int:
    if not argv or argv[0] not in _ACTIONS:
        given = command().parse(argv[:1])["action"]
        near = nearest(given, _ACTIONS)
        raise ArgumentError(f"unpad hub: there is no {given!r}{near} (there are: {', '.join(_ACTIONS)})")
    action = argv[0]
    options = command(action).parse(argv[1:])
    from unpad.serve.server import open_store, prune, serve

    if action == "prune":
        number, size = prune(options["folder"])
        print(f"removed {number} contents, {size / 2**20:.1f} MiB")
        return 0
    if action == "token":
        if not options["name"]:
            raise ArgumentError("unpad hub token: give --name, whose token it is")
        store = open_store(options["folder"])
        if options["remove"]:
            store.remove_token(options["name"])
        else:
            print(store.add_token(options["name"], options["scope"], options["days"]))
        return 0
    ranges = {"lfs_from_mb": (1, 1024), "port": (0, 65535), "timeout": (1, 3600)}
    for name, (least, most) in ranges.items():
        if not least <= options[name] <= most:
            raise ArgumentError(f"unpad hub serve: --{name} {options[name]} is not {least} to {most}")
    size = options["lfs_from_mb"] << 20
    serve(options["folder"], options["host"], options["port"], size, options["timeout"], _open_pipeline)
    return 0


def _open_pipeline(**options: Any) -> Any:
    from unpad.pipelines import pipeline  # when the first model is tried out, not when the server starts

    return pipeline(**options)
