"""The folder of a run as the command line sees it: its config.yaml, and what may become of a run that is found there."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from unpad.checkpoint.files import atomic_write, checkpoints, writing_to
from unpad.errors import ArgumentError, TrainingError, listing

CONFIG = "config.yaml"
LEFTOVERS = ("model.safetensors", "config.json", "evaluation.json", "curves.png", "curves.svg", CONFIG)
"""Files of a finished run beside its checkpoints and history."""
_NOT_KEPT = ("resume", "overwrite_output_dir", "resume_from_checkpoint")
"""Options that say how to start, not what the run is."""


def refuse_other_run(folder: Path, options: dict[str, Any]) -> None:
    """Raise TrainingError when `folder` holds a run or a model that would be lost or mixed up."""
    refuse_no_folder(folder)
    found = [p.name for p in checkpoints(folder)]
    found += [name for name in ("metrics.jsonl", "model.safetensors", "config.json") if (folder / name).exists()]
    model = Path(options["model"]).expanduser()
    if folder.exists() and model.exists() and folder.samefile(model):
        raise ArgumentError(f"output_dir={str(folder)!r} is the folder of the model itself; give another --output_dir")
    if not found or options["overwrite_output_dir"]:
        return
    steps = [int(name.removeprefix("checkpoint-")) for name in found if name.startswith("checkpoint-")]
    what = f"files that are not of this run ({listing(found, 3)})"
    if known := read_config(folder):
        what = "the run {} on {} with {}, seed {}".format(*map(known.get, ("task", "data", "model", "seed")))
    at, again = (f", at step {max(steps)}", "--resume to continue it, ") if steps else ("", "")
    how = f"pass {again}--overwrite_output_dir to remove it, or another --output_dir"
    raise TrainingError(f"output_dir {str(folder)!r} holds {what}{at}; {how}")


def refuse_no_folder(folder: Path) -> None:
    """Raise ArgumentError when the output folder is a file, stands below one, or has no name that the system takes."""
    try:
        place = folder
        while not os.path.lexists(place) and place != place.parent:
            place = place.parent
        wrong = "" if place.is_dir() else f"{str(place)!r} is a file"
        if not wrong:
            folder.stat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # too long, a null character, no permission to look
        wrong = getattr(error, "strerror", None) or str(error)
    if wrong:
        raise ArgumentError(f"output_dir={str(folder)!r:.300} cannot be a folder ({wrong}); give another --output_dir")


def clear_other_run(folder: Path, options: dict[str, Any]) -> None:
    """With overwrite_output_dir, remove what an earlier run left beside its checkpoints (these go when training starts)."""
    if options["overwrite_output_dir"] and not options["resume"]:
        for name in LEFTOVERS:
            (folder / name).unlink(missing_ok=True)


def write_config(folder: Path, options: dict[str, Any]) -> None:
    """Keep the resolved options in `folder/config.yaml`, from which `--config` makes the same run."""
    from unpad import __version__

    kept = {name: value for name, value in options.items() if name not in _NOT_KEPT}
    again = f"unpad train {options['task']} --config THIS_FILE --output_dir ANOTHER_FOLDER"
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / CONFIG, f"# unpad {__version__}. The same run again: {again}\n{to_yaml(kept)}")


def to_yaml(values: dict[str, Any]) -> str:
    """The values as YAML in which text stays text: what could be read as a number ("1e3") is quoted."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        quote = "'" if value[:1] in "+-.0123456789" else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=quote)

    Dumper.add_representer(str, text)
    return yaml.dump(values, Dumper=Dumper, sort_keys=False, allow_unicode=True)


def read_config(folder: str | Path) -> dict[str, Any]:
    """The options of the run in `folder`; empty when it is no run of this command."""
    import yaml

    try:
        found = yaml.safe_load((Path(folder) / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def say_how_to_continue(folder: Path, options: dict[str, Any], step: int) -> None:
    """One line on standard error for a run that was stopped at `step` with Ctrl-C."""
    base = f"unpad train {options['task']} --output_dir {shlex.quote(str(folder))}"
    if found := checkpoints(folder):
        how = f"; continue from {found[-1].name} with: {base} --resume"
    else:
        again = f"{base} --config {shlex.quote(str(folder / CONFIG))} --overwrite_output_dir"
        how = f", before the first checkpoint; start again with: {again}"
    sys.stderr.write(f"\nunpad: stopped at step {step}{how}\n")
