"""The command line is a promise: a flag, its type or its default changes only together with `cli_flags.txt`.

After a wanted change: `UPDATE_CLI_FLAGS=1 python -m pytest tests/contract/test_cli_flags.py`, and say it in the changelog.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from unpad.cli.__main__ import COMMANDS
from unpad.train.arguments import TrainingArguments

FROZEN = Path(__file__).with_name("cli_flags.txt")
SRC = Path(__file__).resolve().parents[2] / "src"


def flags(command: str) -> list[str]:
    line = import_module(f"unpad.cli.{command}").command()
    words = [f"{command} {name.upper()}" for name in line.positional]
    return words + [f"{command} --{o.name}: {o.allowed}, default {o.default!r}" for o in line.options.values()]


def test_flags_types_and_defaults_are_as_promised() -> None:
    now = "\n".join(line for command in COMMANDS for line in flags(command)) + "\n"
    if os.environ.get("UPDATE_CLI_FLAGS") == "1":
        FROZEN.write_text(now, encoding="utf-8")
    assert now.splitlines() == FROZEN.read_text(encoding="utf-8").splitlines()


def test_every_training_argument_is_a_flag() -> None:
    options = import_module("unpad.cli.train").command().options
    assert {f.name for f in dataclasses.fields(TrainingArguments)} <= set(options)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_option_with_meaning_and_default(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = import_module(f"unpad.cli.{command}").command()
    with pytest.raises(SystemExit) as ended:
        line.parse(["--help"])
    assert ended.value.code == 0
    shown = "".join(capsys.readouterr().out.split())  # without the breaks of lines
    for option in line.options.values():
        assert f"--{option.name}" in shown
        assert option.help and "".join(option.help.split()) in shown, f"--{option.name} has no help"
    assert shown.count("default:") == len(line.options)


@pytest.mark.parametrize("command", [[], *[[c] for c in COMMANDS]])
def test_help_does_not_wait_for_torch(command: list[str]) -> None:
    code = (
        f"import sys\nsys.path.insert(0, {str(SRC)!r})\nfrom unpad.cli.__main__ import main\n"
        f"try:\n    main([*{command!r}, '--help'])\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules, 'datasets' in sys.modules, 'matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False False"
