"""`unpad`: finds the command, runs it, and turns every user's mistake into one line and exit code 2.

Exit codes: 0 done, 1 a defect of ours (with its traceback), 2 a mistake that the line on standard error explains,
75 stopped by a signal with everything saved (the same command goes on), 130 stopped with Ctrl-C, 141 the reader of the
output went away. `launch` ends with what its script ends with.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module

from unpad.errors import ArgumentError, UnpadError, nearest

COMMANDS = {
    "train": "Fine-tune a pretrained model on a data set, and show how it went.",
    "evaluate": "Judge a model on a split of a data set.",
    "predict": "Let a model answer for texts, lines of standard input, or a file.",
    "curves": "Draw the learning curves of a run again and say what they mean.",
    "launch": "Run a script in several processes, on one machine or several.",
    "login": "Keep an access token of the Hub for sending and private models.",
    "push": "Send a folder with a model or a data set to the Hub.",
    "hub": "Serve a folder of models and data sets to clients of the Hugging Face Hub.",
    "doctor": "Show versions, devices, and what would be chosen here and why.",
}
"""Command -> what it does. Each has a file of its name in this folder with `run(argv) -> exit code`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's) and return its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without Unicode shows "?" instead of failing
            stream.reconfigure(errors="replace")
    try:
        code = _dispatch(given)
        sys.stdout.flush()
        return code
    except UnpadError as error:
        if os.environ.get("RANK", "0") != "0":
            time.sleep(2.0)  # the main process says it, mostly, and then this one is ended
        print(f"unpad: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nunpad: stopped; run the same command to start again", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # what is still in the buffer would fail again when the interpreter closes
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141


def _dispatch(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if given[0] in ("-V", "--version", "version"):
        from unpad import __version__

        print(f"unpad {__version__}")
        return 0
    command = given[0]
    if command not in COMMANDS:
        near = nearest(command, COMMANDS)
        raise ArgumentError(f"there is no command {command!r}{near} (commands: {', '.join(COMMANDS)})")
    return int(import_module(f"unpad.cli.{command}").run(given[1:]))


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items())
    return f"""usage: unpad COMMAND [options]

Fine-tune, evaluate and use transformer models for NLP without ever computing on padding.

{lines}

unpad COMMAND --help shows every option with its meaning and default.
First steps: unpad train text-classification"""


if __name__ == "__main__":
    sys.exit(main())
