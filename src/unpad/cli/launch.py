"""`unpad launch SCRIPT`: run a script in several processes, on one machine or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unpad.cli._options import Command, options_of

_OF_TORCHRUN = {"nproc_per_node": "nproc", "master_port": "port"}


@dataclass
class LaunchOptions:
    """How many processes run, and where."""

    nproc: int = 1
    """Processes on this machine; with GPUs, one for each of them."""
    nnodes: int = 1
    """Machines of the run; the same command is started on each, with its own --node_rank."""
    node_rank: int = 0
    """Number of this machine, from 0."""
    rdzv_endpoint: str | None = None
    """host:port at which several machines meet, an address of machine 0 and a free port there."""
    max_restarts: int = 0
    """How often all processes start again when one fails."""
    port: int | None = None
    """Port at which the processes of one machine meet; null: a free one."""
    shutdown_timeout: float = 120.0
    """Seconds that the processes have to save and stop after SIGTERM, SIGINT or SIGUSR1, before they are killed."""


def command() -> Command:
    about = (
        "Run a script in several processes, each with RANK, WORLD_SIZE and the other variables of torchrun. "
        "Options stand before the script: unpad launch --nproc 2 train.py --lr 3e-5"
    )
    script = {"script": "a Python file, or -m and the name of a module; everything behind it is its own"}
    groups = {"options": options_of(LaunchOptions)}
    return Command("launch", about, groups, script, aliases=_OF_TORCHRUN, with_config=False)


def run(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code of the process that failed first, or 0."""
    own, rest = _split(argv)
    module = rest[:1] == ["-m"]
    script, arguments = rest[module : module + 1], rest[module + 1 :]
    options = command().parse([*own, *script])
    from unpad.engine.launch import launch

    return launch(**{**options, "script": script[0]}, arguments=arguments, module=module)


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The launcher's own options, each of which has a value, and the rest: the script and what belongs to it."""
    at = 0
    while at < len(argv) and argv[at].startswith("-") and argv[at] not in ("-m", "--"):
        followed = at + 1 < len(argv) and not argv[at + 1].startswith("--")
        at += 1 if "=" in argv[at] or not followed else 2
    return list(argv[:at]), list(argv[at + (argv[at : at + 1] == ["--"]) :])
