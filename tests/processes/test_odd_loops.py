"""Loops that are left, begun twice or saved early, odd batches, and errors that only one process meets."""

from __future__ import annotations

import errno
import os
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from many import many
from runs import model, rows, trainer
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler, IterableDataset, RandomSampler

from unpad import Accelerator, ArgumentError, Trainer, TrainingArguments
from unpad.engine import accelerator as engine
from unpad.errors import UnpadError
from unpad.train import frozen

Pair = namedtuple("Pair", "row text")


class Rows(Dataset):
    """23 rows, which 4 does not divide, and whose last batch of 2 has a row for one process alone."""

    def __len__(self) -> int:
        return 23

    def __getitem__(self, i: int) -> Pair:
        return Pair(torch.tensor(i), str(i))


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        return iter(Rows()[i] for i in range(23))


def refusal(act: Callable[[], Any]) -> str:
    try:
        act()
    except UnpadError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def resumed(make: Callable[[], Any], folder: str) -> list[int]:
    """The rows that a loop sees which ends in its second pass, and another that goes on from there."""
    seen: list[int] = []
    for part in ("first", "second"):
        accelerator = Accelerator("fp32", seed=3)
        loader = accelerator.prepare(make())
        if part == "second":
            accelerator.load_state(folder)
        for epoch in range(loader.epoch, 2):
            for batch in loader:
                if epoch == 1:
                    seen += accelerator.gather_for_metrics(batch.row).tolist()
                if part == "first" and epoch == 1 and loader.position == 2:
                    accelerator.save_state(folder)
                    break
    return seen


RESUMED: dict[str, Callable[[], Any]] = {
    "a stream": lambda: DataLoader(Stream(), batch_size=4),
    "a batch sampler": lambda: DataLoader(Rows(), batch_sampler=BatchSampler(RandomSampler(Rows()), 4, False)),
    "a generator": lambda: DataLoader(
        Rows(), batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(4), num_workers=0
    ),
}


def trained(folder: str, strategy: str, save: bool = False, load: bool = False, sharded: bool = False) -> float:
    """A sum over the weights after six steps; the state is saved or loaded before the first."""
    accelerator = Accelerator("fp32", strategy=strategy)
    torch.manual_seed(0)
    plain = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.1)
    wrapped, optimizer = accelerator.prepare(plain, optimizer)
    if save:
        accelerator.save_state(folder, sharded=sharded)
    if load:
        accelerator.load_state(folder)
    for step in range(6):
        accelerator.backward(wrapped(torch.ones(2, 3)).pow(2).sum() * (step + 1))
        optimizer.step()
        optimizer.zero_grad()
    return float(sum(value.sum() for value in accelerator.get_state_dict(wrapped).values()))


def odd(folder: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    accelerator = Accelerator("fp32")
    rank, many_ = accelerator.process_index, accelerator.num_processes > 1
    loader = accelerator.prepare(DataLoader(Rows(), batch_size=4))
    first = next(iter(loader))
    out["named"] = type(first).__name__, [len(list(loader)), len(list(loader))]
    both = [[accelerator.gather(part.row).tolist() for part in pair] for pair in zip(loader, loader, strict=True)]
    out["twice"] = [row for a, b in both for row in a if a == b]
    pairs, count = accelerator.prepare(DataLoader(Rows(), batch_size=2)), 0
    for batch in pairs:
        count += 1
        last = accelerator.gather_for_metrics(batch.row).tolist()
    out["last"], out["after"] = last, accelerator.gather(torch.tensor([count])).tolist()
    out["resumed"] = {name: resumed(make, f"{folder}/{name}") for name, make in RESUMED.items()}
    out["padded"] = list(accelerator.pad_across_processes(torch.ones(2, rank + 1), dim=-1).shape)
    strategies = ("auto", "fsdp") if many_ else ("auto",)
    out["early"] = [trained(f"{folder}/{name} early", name, save=True) for name in strategies]
    out["early"] += [trained(f"{folder}/{name} early", name, load=True) for name in strategies]
    if many_:
        out["early"].append(trained(f"{folder}/parts", "fsdp", save=True, sharded=True))
        out["early"].append(trained(f"{folder}/parts", "fsdp", load=True))
        out["early"].append(trained(f"{folder}/auto early", "fsdp", load=True))
        out["none"] = accelerator.gather(torch.tensor([]) if rank else torch.tensor([5, 6])).tolist()
        out["dtypes"] = refusal(lambda: accelerator.gather(torch.ones(2, dtype=torch.int32 if rank else torch.int64)))
        sampler: Any = DistributedSampler(Rows(), num_replicas=2, rank=rank)
        out["dealt"] = refusal(lambda: accelerator.prepare(DataLoader(Rows(), sampler=sampler)))
        out["apart"] = refusal(_prepared_apart)
        out["full"] = refusal(lambda: _on_a_full_disk(accelerator, f"{folder}/full")), os.path.exists(f"{folder}/full")
        accelerator.wait_for_everyone()  # the main process tidies up behind its error
        out["left"] = [name for name in os.listdir(folder) if "staging" in name]
        try:
            accelerator.world.on_main(lambda: dict[str, int]()["a key"])
        except Exception as error:
            out["failed"] = type(error).__name__
    return out


def _prepared_apart() -> None:
    accelerator, plain = Accelerator("fp32", strategy="fsdp"), nn.Linear(3, 2)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    accelerator.prepare(plain)
    accelerator.prepare(optimizer)


def _on_a_full_disk(accelerator: Accelerator, folder: str) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write, engine.write_tree = engine.write_tree, full  # type: ignore[assignment]
    try:
        accelerator.save_state(folder)
    finally:
        engine.write_tree = write


@pytest.fixture(scope="module", params=[1, 2], ids=["alone", "two"])
def found(request: Any, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = str(tmp_path_factory.mktemp("odd"))
    results = [odd(folder)] if request.param == 1 else many(2, odd, folder)
    for error in (result for result in results if not isinstance(result, dict)):
        raise error
    return results


def test_a_pass_that_was_left_begins_anew_and_two_passes_do_not_disturb_each_other(found: list[dict[str, Any]]) -> None:
    for run in found:
        assert run["named"] == ("Pair", [6, 6])
        assert run["twice"] == list(range(23))


def test_after_a_loop_gather_takes_what_each_process_has(found: list[dict[str, Any]]) -> None:
    for run in found:
        assert run["last"] == [22] and run["after"] == [12] * len(found)


@pytest.mark.parametrize("name", RESUMED)
def test_a_second_pass_goes_on_where_it_was_saved(name: str, found: list[dict[str, Any]]) -> None:
    for run in found:
        assert sorted(run["resumed"][name]) == list(range(23))


def test_a_state_that_is_saved_before_the_first_step_changes_nothing(found: list[dict[str, Any]]) -> None:
    np.testing.assert_allclose(found[0]["early"], found[0]["early"][0], rtol=1e-6)


def test_what_only_many_processes_can_get_wrong(found: list[dict[str, Any]]) -> None:
    assert [run["padded"] for run in found] == [[2, len(found)]] * len(found)
    for run in found if len(found) > 1 else []:
        assert run["none"] == [5, 6]
        assert "gather needs one dtype" in run["dtypes"]
        assert "DistributedSampler" in run["dealt"] and "one call of prepare" in run["apart"]


def test_what_fails_on_the_main_process_fails_on_all(found: list[dict[str, Any]]) -> None:
    for run in found if len(found) > 1 else []:
        assert run["full"][0].startswith("CheckpointError: cannot write") and "No space" in run["full"][0]
        assert run["full"][1] is False and run["left"] == []
    if len(found) > 1:
        assert [run["failed"] for run in found] == ["KeyError", "TrainingError"]


class Tied(nn.Module):
    """A model of another library: it predicts words with the table that it reads, and saves that once."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.out = nn.Embedding(300, 8), nn.Linear(8, 300, bias=False)
        self.out.weight = self.words.weight

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.out(self.words(input_ids))
        return {"loss": nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits[..., :2]}

    def save_pretrained(self, folder: Path, state_dict: Any = None) -> None:
        from safetensors.torch import save_file

        weights = dict(state_dict or self.state_dict())
        save_file({"words.weight": weights["words.weight"]}, str(folder / "model.safetensors"))


def collate(some: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Labels in every third row only, as when few words are masked."""
    ids = torch.tensor([row["input_ids"][:2] for row in some])
    return {"input_ids": ids, "labels": torch.where(ids[:, :1] % 3 == 0, ids, -100)}


def losses(run: Trainer) -> list[float]:
    return [r.get("loss", r.get("eval_loss")) for r in run.state.log_history if "loss" in r or "eval_loss" in r]


def runs(folder: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    again = trainer("bert", f"{folder}/again", fsdp="full_shard", max_steps=4)
    for _ in range(2):
        again.train()
        out.setdefault("again", []).extend(losses(again))
    for fsdp in ("", "full_shard"):
        settings = TrainingArguments(
            f"{folder}/tied{fsdp}", fsdp=fsdp, max_steps=6, per_device_train_batch_size=4, learning_rate=0.5, logging_steps=1, seed=2,
            eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2, load_best_model_at_end=True, disable_tqdm=True,
            draw_curves=False, precision="fp32", per_device_eval_batch_size=1,
        )  # fmt: skip
        run = Trainer(
            Tied(), settings, train_dataset=rows("bert", 23, 0), eval_dataset=rows("bert", 9, 1), data_collator=collate
        )
        run.train()
        out[f"tied{fsdp}"] = [*losses(run), run.evaluate()["eval_loss"]]
    if os.environ.get("RANK") == "1":
        opened = frozen._opened

        def late(*args: Any) -> Any:
            time.sleep(0.3)
            return opened(*args)

        frozen._opened = late  # type: ignore[assignment]
    head = trainer("bert", f"{folder}/head", freeze="base", max_steps=3)
    head.train()
    out["frozen"] = losses(head)
    out["refused"] = refusal(
        lambda: Trainer(
            model("bert"), TrainingArguments(f"{folder}/no", freeze="base", fsdp="full_shard", disable_tqdm=True)
        )
    )
    return out


def test_the_trainer_twice_with_foreign_models_few_labels_and_a_frozen_base(tmp_path: Path) -> None:
    alone, together = runs(str(tmp_path / "one")), many(2, runs, str(tmp_path / "two"))
    for error in (result for result in together if not isinstance(result, dict)):
        raise error
    assert "leave fsdp out" in together[0].pop("refused") and alone.pop("refused") == ""
    for name, values in alone.items():
        assert np.isfinite(values).all()
        np.testing.assert_allclose(together[0][name], values, atol=1e-4, err_msg=name)
    assert alone["tied"][-1] < alone["tied"][-2] or alone["tied"][-1] == min(alone["tied"][2::3])


def test_a_state_in_the_midst_of_a_step_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    accelerator = Accelerator("fp32", gradient_accumulation_steps=3)
    plain = accelerator.prepare(nn.Linear(2, 2))
    with accelerator.accumulate(plain):
        accelerator.save_state(tmp_path / "state")
    assert "after 1 of 3 micro-batches" in caplog.text


def test_a_distributed_sampler_is_fine_with_one_process() -> None:
    sampler: Any = DistributedSampler(Rows(), num_replicas=1, rank=0, shuffle=False)
    assert len(list(Accelerator("fp32").prepare(DataLoader(Rows(), sampler=sampler)))) == 23
    with pytest.raises(ArgumentError, match="cannot take a int"):
        Accelerator("fp32").prepare(3)
