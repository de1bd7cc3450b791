"""What a training loop costs per step beside the model: the Accelerator next to `accelerate` and Lightning Fabric, and the Trainers.

    python benchmarks/engine.py               microseconds per optimizer step (about a minute)
    python benchmarks/engine.py loops         custom loops only; likewise: trainers
    python benchmarks/engine.py --profile     which functions our loops spend more, or less, time in than the plain loop

The model is one linear layer, so that nearly all of a step is the loop. Overhead is the median step of a side minus the median step of a
plain PyTorch loop with the same model, optimizer, schedule and loader, both from the same round; printed is its median over the rounds,
in which all sides take turns. Below zero a side is cheaper than the plain loop. Everything in fp32, on one thread of the CPU. The custom
loops must arrive at the same weights, or nothing is printed.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import platform
import pstats
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sides import step_clock

WIDTH, ROWS, STEPS, WARM = 16, 8, 300, 20
MAX_NORM = 0.05
"""Less than any gradient here, so that clipping always has to act."""
LINES = 24
"""Of a profile."""
OTHERS = ("accelerate", "fabric", "transformers")

Run = Callable[[], list[float]]
"""Trains for STEPS optimizer steps and returns when each micro-batch (of a Trainer: each step) was done, in seconds."""


class Case(NamedTuple):
    """One row of the table: what the loop does in a step."""

    name: str
    max_norm: float | None = MAX_NORM
    accumulation: int = 1
    fused: bool = False


LOOPS = (
    Case("loop, clipped"),
    Case("loop, not clipped", max_norm=None),
    Case("loop, clipped, 4 micro-batches", accumulation=4),
    Case("loop, clipped, fused AdamW", fused=True),
)
TRAINERS = (
    Case("Trainer, clipped, fused AdamW", fused=True),
    Case("Trainer, the same, 4 micro-batches", accumulation=4, fused=True),
)


class Side(NamedTuple):
    """One loop over one model."""

    run: Run
    model: Any


def parts(case: Case) -> tuple[Any, Any, Any, Any]:
    """Model, optimizer, loader of ready batches (x, y), both [ROWS, WIDTH], and schedule: alike for all sides."""
    import torch
    from torch.optim.lr_scheduler import LambdaLR
    from torch.utils.data import DataLoader

    torch.manual_seed(1)
    model = torch.nn.Linear(WIDTH, WIDTH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=case.fused or None)
    batches = [tuple(torch.randn(2, ROWS, WIDTH)) for _ in range(16)]
    ready: Any = list(itertools.islice(itertools.cycle(batches), STEPS * case.accumulation))
    return model, optimizer, DataLoader(ready, batch_size=None), LambdaLR(optimizer, lambda step: 1 / (1 + step))


def plain_loop(case: Case) -> Side:
    """The floor: PyTorch alone."""
    from torch.nn.functional import mse_loss
    from torch.nn.utils import clip_grad_norm_

    model, optimizer, loader, schedule = parts(case)
    max_norm, k = case.max_norm, case.accumulation

    def run() -> list[float]:
        times = []
        for i, (x, y) in enumerate(loader, start=1):
            loss = mse_loss(model(x), y)
            (loss / k if k > 1 else loss).backward()
            if i % k == 0:
                if max_norm:
                    clip_grad_norm_(model.parameters(), max_norm)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            times.append(time.perf_counter())
        return times

    return Side(run, model)


def our_loop(case: Case) -> Side:
    """The loop of docs/training.md."""
    from torch.nn.functional import mse_loss

    from unpad import Accelerator

    accelerator = Accelerator("fp32", gradient_accumulation_steps=case.accumulation, cpu=True)
    model, optimizer, loader, schedule = accelerator.prepare(*parts(case))
    max_norm = case.max_norm

    def run() -> list[float]:
        times = []
        for x, y in loader:
            with accelerator.accumulate(model):
                accelerator.backward(mse_loss(model(x), y))
                if max_norm:
                    accelerator.clip_grad_norm_(model.parameters(), max_norm)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            times.append(time.perf_counter())
        return times

    return Side(run, model)


def accelerate_loop(case: Case) -> Side:
    """The loop that `accelerate` documents: clipping asks whether this micro-batch ends the window."""
    from accelerate import Accelerator
    from torch.nn.functional import mse_loss

    accelerator = Accelerator(mixed_precision="no", gradient_accumulation_steps=case.accumulation, cpu=True)
    model, optimizer, loader, schedule = accelerator.prepare(*parts(case))
    max_norm = case.max_norm

    def run() -> list[float]:
        times = []
        for x, y in loader:
            with accelerator.accumulate(model):
                accelerator.backward(mse_loss(model(x), y))
                if max_norm and accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), max_norm)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            times.append(time.perf_counter())
        return times

    return Side(run, model)


def fabric_loop(case: Case) -> Side:
    """The loops that Fabric documents: accumulation is the script's own, with `no_backward_sync` around its micro-batches only."""
    from lightning_fabric import Fabric
    from torch.nn.functional import mse_loss

    fabric: Any = Fabric(accelerator="cpu", devices=1, precision="32-true")
    fabric.launch()
    plain, optimizer, loader, schedule = parts(case)
    model, optimizer = fabric.setup(plain, optimizer)
    loader = fabric.setup_dataloaders(loader)
    max_norm, k = case.max_norm, case.accumulation

    def run() -> list[float]:
        times = []
        for i, (x, y) in enumerate(loader, start=1):
            whole = i % k == 0
            if k > 1:
                with fabric.no_backward_sync(model, enabled=not whole):
                    fabric.backward(mse_loss(model(x), y) / k)
            else:
                fabric.backward(mse_loss(model(x), y))
            if whole:
                if max_norm:
                    fabric.clip_gradients(model, optimizer, max_norm=max_norm)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            times.append(time.perf_counter())
        return times

    return Side(run, plain)


def losing() -> Any:
    """The linear layer as a module of somebody else, whose forward returns a loss."""
    import torch

    class Losing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Any, labels: Any) -> dict[str, Any]:
            return {"loss": torch.nn.functional.mse_loss(self.layer(x), labels)}

    torch.manual_seed(1)
    return Losing()


def ready_rows() -> tuple[Any, Callable[[list[Any]], Any]]:
    """A data set whose rows are batches already, and the collator that takes the one row of each."""
    import torch

    torch.manual_seed(2)
    kinds = [{"x": torch.randn(ROWS, WIDTH), "labels": torch.randn(ROWS, WIDTH)} for _ in range(16)]
    return kinds * 64, lambda rows: rows[0]


def plain_training(case: Case) -> Side:
    """The floor of the Trainers: PyTorch alone, with the same rows, optimizer, clipping and linear schedule."""
    import torch
    from torch.optim.lr_scheduler import LambdaLR
    from torch.utils.data import DataLoader

    model, (rows, collator), k = losing(), ready_rows(), case.accumulation
    total = STEPS + WARM

    def run() -> list[float]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.0, fused=True)
        schedule = LambdaLR(optimizer, lambda step: max(0.0, (total - step) / total))
        loader = DataLoader(rows, batch_size=1, shuffle=True, collate_fn=collator)
        batches = itertools.chain.from_iterable(itertools.repeat(loader))
        times = []
        for _ in range(total):
            for batch in itertools.islice(batches, k):
                loss = model(**batch)["loss"]
                (loss / k if k > 1 else loss).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            times.append(time.perf_counter())
        return times[WARM:]

    return Side(run, model)


def trainer(side: str, case: Case, folder: Path) -> Side:
    """Our Trainer or theirs, with what both do by default beside progress, checkpoints and curves."""
    import transformers

    import unpad

    options: dict[str, Any] = {
        "output_dir": str(folder / side), "per_device_train_batch_size": 1, "gradient_accumulation_steps": case.accumulation,
        "max_steps": STEPS + WARM, "max_grad_norm": MAX_NORM, "optim": "adamw_torch_fused", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no",
    }  # fmt: skip
    model, (rows, collator) = losing(), ready_rows()
    if side == "unpad":
        ours = unpad.TrainingArguments(**options, precision="fp32", draw_curves=False, overwrite_output_dir=True)
        trains: Any = unpad.Trainer(model, ours, collator, rows)
    else:
        trains = transformers.Trainer(model, transformers.TrainingArguments(**options, report_to=[]), collator, rows)

    def run() -> list[float]:
        clock = step_clock(side)
        if side == "unpad":
            trains.callbacks[:] = [clock]
        else:
            trains.callback_handler.callbacks[1:] = [clock]
        trains.train()
        return clock.times[WARM:]

    return Side(run, model)


def loop_sides(case: Case) -> dict[str, Side]:
    return {
        "floor": plain_loop(case),
        "unpad": our_loop(case),
        "accelerate": accelerate_loop(case),
        "fabric": fabric_loop(case),
    }


def trainer_sides(case: Case, folder: Path) -> dict[str, Side]:
    return {
        "floor": plain_training(case),
        "unpad": trainer("unpad", case, folder),
        "transformers": trainer("transformers", case, folder),
    }


def median_step(times: list[float], each: int) -> float:
    """Microseconds of the median step, of which every `each`-th time is the end."""
    ends = times[each - 1 :: each]
    return statistics.median(b - a for a, b in itertools.pairwise(ends)) * 1e6


def measure(sides: dict[str, Side], each: int, rounds: int) -> dict[str, float]:
    """Microseconds per step: the floor's own, and the overhead of the others. The order of the sides changes with each round."""
    names = list(sides)
    found: dict[str, list[float]] = {name: [] for name in names}
    for side in sides.values():
        side.run()
    for turn in range(rounds):
        first = turn % len(names)
        steps = {name: median_step(sides[name].run(), each) for name in names[first:] + names[:first]}
        for name, step in steps.items():
            found[name].append(step if name == "floor" else step - steps["floor"])
    return {name: statistics.median(values) for name, values in found.items()}


def check_equal(sides: dict[str, Side]) -> None:
    """Stop where a side did not train as the plain loop did."""
    import torch

    expected = sides["floor"].model.state_dict()
    for name, side in sides.items():
        for key, value in side.model.state_dict().items():
            if not torch.allclose(value, expected[key], atol=1e-5):
                raise SystemExit(
                    f"{name}: {key} is {float((value - expected[key]).abs().max()):.2g} away from the plain loop's"
                )


def profile(run: Run, steps: int) -> dict[str, float]:
    """Function -> microseconds per step in itself, on the clock of the thread, which others on the machine do not move."""
    profiler = cProfile.Profile(time.thread_time)
    profiler.runcall(run)
    stats: Any = pstats.Stats(profiler)
    found: dict[str, float] = {}
    for (file, line, function), (_, _, seconds, _, _) in stats.stats.items():
        name = function if file == "~" else f"{'/'.join(Path(file).parts[-2:])}:{line} {function}"
        found[name] = seconds / steps * 1e6
    return found


def print_profile(case: Case, sides: dict[str, Side], steps: int, rounds: int) -> None:
    """Where our loop differs from the plain one, medians over rounds. The profiler makes calls dearer than they are: the order counts."""
    runs: dict[str, list[dict[str, float]]] = {"floor": [], "unpad": []}
    for _ in range(rounds + 1):
        for name, profiles in runs.items():
            profiles.append(profile(sides[name].run, steps))
    floor, ours = (
        {function: statistics.median(one.get(function, 0.0) for one in profiles[1:]) for function in profiles[-1]}
        for profiles in runs.values()
    )
    more = {function: ours.get(function, 0.0) - floor.get(function, 0.0) for function in {**floor, **ours}}
    print(
        f"\n{case.name}: microseconds per step under the profiler, ours {sum(ours.values()):.0f}, plain {sum(floor.values()):.0f}"
    )
    print(f"{'difference':>12s}{'ours':>8s}{'plain':>8s}  function")
    for function in sorted(more, key=lambda one: -abs(more[one]))[:LINES]:
        print(f"{more[function]:+12.1f}{ours.get(function, 0.0):8.1f}{floor.get(function, 0.0):8.1f}  {function}")


def print_head() -> None:
    import accelerate
    import lightning_fabric
    import torch
    import transformers

    versions = {m.__name__: m.__version__ for m in (torch, accelerate, lightning_fabric, transformers)}
    print(f"{platform.processor() or platform.machine()}, 1 thread, {', '.join(map(' '.join, versions.items()))}")
    print("microseconds per optimizer step: the plain loop whole, of the others what they add to it")
    print(f"{'':38s}{'floor':>8s}{'unpad':>8s}{''.join(f'{name:>14s}' for name in OTHERS)}{'ours / best':>13s}")


def print_row(case: Case, found: dict[str, float]) -> None:
    best = min(found[name] for name in OTHERS if name in found)
    others = "".join(f"{found[name]:14.1f}" if name in found else f"{'':14s}" for name in OTHERS)
    ratio = f"{found['unpad'] / best:13.2f}" if best > 0 else f"{'-':>13s}"
    print(f"{case.name:38s}{found['floor']:8.1f}{found['unpad']:8.1f}{others}{ratio}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", default="all", choices=["all", "loops", "trainers"])
    parser.add_argument("--rounds", type=int, default=9, help="turns of each side (default 9)")
    parser.add_argument("--profile", action="store_true", help="print where our loops spend time, and measure nothing")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    if not options.profile:
        print_head()
    with tempfile.TemporaryDirectory() as folder:
        for case in (LOOPS if options.what != "trainers" else ()) + (TRAINERS if options.what != "loops" else ()):
            a_loop = case in LOOPS
            sides = loop_sides(case) if a_loop else trainer_sides(case, Path(folder))
            if options.profile:
                print_profile(case, sides, STEPS if a_loop else STEPS + WARM, options.rounds)
            else:
                found = measure(sides, case.accumulation if a_loop else 1, options.rounds)
                if a_loop:
                    check_equal(sides)
                print_row(case, found)


if __name__ == "__main__":
    main()
