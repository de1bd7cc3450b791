"""A custom loop, the collectives and the saved state, on one process and on several."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from many import many
from torch import nn
from torch.utils.data import DataLoader, Dataset

from unpad import Accelerator, ArgumentError, get_scheduler, set_seed


class Numbers(Dataset):  # type: ignore[type-arg]
    """23 rows of 5 numbers with a class: no number of processes divides them."""

    def __len__(self) -> int:
        return 23

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"x": torch.sin(torch.arange(5.0) * (i + 1)), "labels": torch.tensor(i % 3), "row": torch.tensor(i)}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> Any:
        logits = self.last(torch.tanh(self.first(x)))
        return nn.functional.cross_entropy(logits, labels), logits


def objects(accelerator: Accelerator, batch: int = 6, epochs: int = 3) -> Any:
    set_seed(1)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    loader = DataLoader(Numbers(), batch_size=batch, shuffle=True)
    schedule = get_scheduler("linear", optimizer, 2, epochs * len(loader))
    # any order
    loader, schedule, model, optimizer = accelerator.prepare(loader, schedule, model, optimizer)
    return model, optimizer, loader, schedule


def loop(
    accumulation: int, epochs: int = 3, save: str = "", load: str = "", strategy: str = "auto", sharded: bool = False
) -> dict[str, Any]:
    """Trains, counts every sample, and gives what the run was like; `save` after the fifth batch, `load` before the first."""
    accelerator = Accelerator("fp32", gradient_accumulation_steps=accumulation, strategy=strategy)
    model, optimizer, loader, schedule = objects(accelerator)
    losses, seen = [], []
    if load:
        accelerator.load_state(load)
    for epoch in range(loader.epoch, epochs):
        seen.append([])
        for batch in loader:
            with accelerator.accumulate(model):
                loss, logits = model(batch["x"], batch["labels"])
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            rows = accelerator.gather_for_metrics(batch["row"])
            each = nn.functional.cross_entropy(logits.detach(), batch["labels"], reduction="none")
            losses.append(float(accelerator.gather_for_metrics(each).mean()))
            seen[-1] += rows.tolist()
            if save and epoch == 1 and loader.position == 1:
                accelerator.save_state(save, sharded=sharded)
    weights = {k: v.numpy().copy() for k, v in accelerator.strategy.weights(accelerator.unwrap_model(model)).items()}
    return {"losses": losses, "seen": seen, "weights": weights, "lr": schedule.get_last_lr()}


def _loops(folder: str) -> dict[Any, Any]:
    found = {(n, strategy): loop(n, strategy=strategy) for n in (1, 2) for strategy in ("auto", "fsdp")}
    found["saved"] = loop(1, save=f"{folder}/ddp")
    found["whole"] = loop(1, save=f"{folder}/whole", strategy="fsdp")
    found["parts"] = loop(1, save=f"{folder}/parts", strategy="fsdp", sharded=True)
    return found


def _continued(folder: str) -> dict[Any, Any]:
    found: dict[Any, Any] = {name: loop(1, load=f"{folder}/{name}") for name in ("ddp", "whole", "one")}
    found["by fsdp"] = loop(1, load=f"{folder}/one", strategy="fsdp")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        found["parts"] = loop(1, load=f"{folder}/parts", strategy="fsdp")
    return found


def checked(results: list[Any]) -> list[Any]:
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def alike(one: dict[str, Any], other: dict[str, Any]) -> None:
    skipped = len(one["losses"]) - len(other["losses"])
    np.testing.assert_allclose(other["losses"], one["losses"][skipped:], atol=1e-5)
    assert one["lr"] == pytest.approx(other["lr"])
    for name, values in one["weights"].items():
        np.testing.assert_allclose(other["weights"][name], values, atol=1e-5, err_msg=name)


def test_a_loop_is_the_same_with_1_2_and_4_processes_and_goes_on_with_another_number(tmp_path: Path) -> None:
    alone = {n: loop(n) for n in (1, 2)}
    for rows in alone[1]["seen"]:
        assert sorted(rows) == list(range(23))
    alike(alone[1], loop(1, save=str(tmp_path / "one")))
    for processes in (2, 4):
        together = checked(many(processes, _loops, str(tmp_path)))
        for found in together[:1]:
            for (accumulation, name), run in ((key, run) for key, run in found.items() if isinstance(key, tuple)):
                alike(alone[accumulation], run)
                assert run["seen"] == alone[accumulation]["seen"], (
                    name,
                    "each sample once, in the order of one process",
                )
            for name in ("saved", "whole", "parts"):
                alike(alone[1], found[name])
        if processes == 2:
            for continued in (_continued(str(tmp_path)), *checked(many(4, _continued, str(tmp_path)))[:1]):
                for run in continued.values():
                    assert len(run["losses"]) == 7
                    alike(alone[1], run)


def _asked_to_stop() -> list[bool]:
    accelerator = Accelerator("fp32")
    answers = [accelerator.stop_requested()]
    if accelerator.process_index == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return [*answers, accelerator.stop_requested()]


def test_a_stop_signal_to_one_process_is_known_to_all() -> None:
    assert checked(many(2, _asked_to_stop)) == [[False, True]] * 2


def _collectives() -> Any:
    accelerator = Accelerator("fp32")
    rank = accelerator.process_index
    ragged = torch.arange(rank + 1)
    out: dict[str, Any] = {
        "ragged": accelerator.gather(ragged).tolist(),
        "tree": accelerator.gather({"a": torch.tensor(float(rank)), "b": [torch.tensor([rank > 0])]}),
        "half": accelerator.gather(torch.full((1, 2), rank + 0.5, dtype=torch.bfloat16)).tolist(),
        "padded": accelerator.pad_across_processes(torch.ones(1, rank + 1), dim=1, pad_index=-100).tolist(),
        "first": accelerator.pad_across_processes(ragged, dim=0, pad_index=9, pad_first=True).tolist(),
        "sum": accelerator.reduce(torch.tensor([1.0, rank])).tolist(),
        "mean": accelerator.reduce(torch.tensor([1.0, rank]), "mean").tolist(),
        "who": (accelerator.num_processes, rank, accelerator.local_process_index, accelerator.is_main_process, accelerator.is_local_main_process),
    }  # fmt: skip
    accelerator.wait_for_everyone()
    for wrong in (lambda: accelerator.gather(torch.ones(1, rank + 1)), lambda: accelerator.reduce(ragged, "max")):
        try:
            wrong()
        except ArgumentError as error:
            out.setdefault("refused", []).append(str(error))
    return out


def test_what_the_processes_tell_one_another() -> None:
    zero, one = checked(many(2, _collectives))
    assert zero.pop("who") == (2, 0, 0, True, True) and one.pop("who") == (2, 1, 1, False, False)
    assert zero.pop("padded") == [[1.0, -100.0]] and one.pop("padded") == [[1.0, 1.0]]
    assert zero.pop("first") == [9, 0] and one.pop("first") == [0, 1]
    assert "pad_across_processes" in zero["refused"][0] and "allowed: sum, mean" in zero["refused"][1]
    assert zero["ragged"] == [0, 0, 1] and zero["half"] == [[0.5, 0.5], [1.5, 1.5]]
    assert zero["sum"] == [2.0, 1.0] and zero["mean"] == [1.0, 0.5]
    assert zero["tree"]["a"].tolist() == [0.0, 1.0] and zero["tree"]["b"][0].tolist() == [False, True]


DIFFERING = ("gradient_accumulation_steps", "parameter", "lr", "batches")


def _differing() -> dict[str, str]:
    """What each difference between the processes leads to."""
    rank, found = int(os.environ["RANK"]), {}
    for what in DIFFERING:
        accelerator = Accelerator("fp32", gradient_accumulation_steps=1 + rank if what == DIFFERING[0] else 1)
        model = nn.Linear(3, 2 + rank if what == "parameter" else 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1 * (1 + rank) if what == "lr" else 0.1)
        with pytest.raises(ArgumentError) as error:
            accelerator.prepare(model, optimizer, DataLoader([1.0] * (8 + rank if what == "batches" else 8)))
        found[what] = str(error.value)
    return found


def test_processes_that_were_started_differently_all_stop_and_name_it() -> None:
    for found in checked(many(2, _differing)):
        for what in DIFFERING:
            assert what in found[what] and "on rank 1" in found[what] and "\n" not in found[what]


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    accelerator = Accelerator("fp32")
    model = Net()
    prepared = accelerator.prepare(model, DataLoader(Numbers()))
    for again in (model, prepared[1], prepared[1].loader):
        with pytest.raises(ArgumentError, match="was prepared before"):
            accelerator.prepare(again)
    stream = Accelerator("fp32").prepare(_Stream())
    with pytest.raises(ArgumentError, match="has no length"):
        len(stream)
    assert len(list(stream)) == 3
    accelerator.save_state(tmp_path / "state")
    other = Accelerator("fp32")
    other.prepare(nn.Linear(2, 2), DataLoader(Numbers()))
    with pytest.raises(Exception, match="is of another model") as error:
        other.load_state(tmp_path / "state")
    assert "\n" not in str(error.value)
    for wrong, words in (
        ({"strategy": "dp"}, "strategy='dp'"),
        ({"gradient_accumulation_step": 2}, "did you mean 'gradient_accumulation_steps'"),
        ({"gradient_accumulation_steps": 0}, "1 or more"),
    ):
        with pytest.raises(ArgumentError, match=words):
            Accelerator(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="project_dir"):
        accelerator.save_state()


class _Stream:
    """Batches that come as they come."""

    def __iter__(self) -> Any:
        return iter([torch.ones(2)] * 3)


def test_numbered_states_and_the_newest_valid_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    accelerator = Accelerator("fp32", project_dir=tmp_path)
    model = accelerator.prepare(Net())
    kept = []
    for _ in range(3):
        with torch.no_grad():
            model.first.weight.add_(1.0)
        kept.append(model.first.weight.detach().clone())
        newest = accelerator.save_state()
    assert newest.name == "checkpoint-2"
    with (newest / "model_0.safetensors").open("r+b") as file:
        file.truncate(100)
    assert accelerator.load_state().name == "checkpoint-1"
    assert torch.equal(model.first.weight, kept[1])
    assert "checkpoint-2 is damaged" in caplog.text
