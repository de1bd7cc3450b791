"""A run is the same with 1, 2 and 4 processes: losses, evaluations, weights; and one that is saved by 2 goes on with 1 or 4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from many import many
from runs import trained

# 23 rows: no number of processes, rows or accumulation divides them
CUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"gradient_accumulation_steps": 3},
    "by tokens": {"max_tokens_per_batch": 90},
    "fewer rows than processes": {"per_device_train_batch_size": 3},
}
SHAPES = ("bert", "albert", "llama", "t5")
JOBS = [("bert", cut, changes) for cut, changes in CUTS.items()]
JOBS += [
    (kind, strategy, {"fsdp": "full_shard" if strategy == "fsdp" else "", "gradient_accumulation_steps": 2, "max_steps": 5})
    for kind in SHAPES for strategy in ("ddp", "fsdp")
]  # fmt: skip


JOBS.append(("bert", "sharded bf16", {"fsdp": "full_shard", "precision": "bf16"}))


def same(one: dict[str, Any], other: dict[str, Any], tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(other["losses"], one["losses"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(other["norms"], one["norms"], rtol=1e-4)
    assert one["tokens"] == other["tokens"]
    for a, b in zip(one["evaluations"], other["evaluations"], strict=True):
        assert a.keys() == b.keys() and a.get("eval_accuracy") == b.get("eval_accuracy")
        assert a["eval_loss"] == pytest.approx(b["eval_loss"], abs=tolerance)
    assert one["weights"].keys() == other["weights"].keys()
    for name, values in one["weights"].items():
        np.testing.assert_allclose(other["weights"][name], values, rtol=0, atol=tolerance, err_msg=name)


def run_all(folder: str, jobs: list[Any]) -> dict[Any, Any]:
    return {(kind, name): trained(kind, f"{folder}/{kind} {name}", **changes) for kind, name, changes in jobs}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    return run_all(str(tmp_path_factory.mktemp("alone")), JOBS)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Any]]:
    jobs = {2: JOBS, 4: JOBS[: len(CUTS)]}
    found = {n: many(n, run_all, str(tmp_path_factory.mktemp(f"of{n}")), some) for n, some in jobs.items()}
    for error in (result for results in found.values() for result in results if not isinstance(result, dict)):
        raise error
    return found


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("cut", CUTS)
def test_losses_figures_and_weights_do_not_depend_on_the_number_of_processes(
    processes: int, cut: str, alone: dict[Any, Any], together: dict[int, list[Any]]
) -> None:
    for found in together[processes]:
        same(alone["bert", cut], found["bert", cut])


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("kind", SHAPES)
def test_every_family_shape_trains_alike_in_parts(
    kind: str, strategy: str, alone: dict[Any, Any], together: dict[int, list[Any]]
) -> None:
    same(alone[kind, strategy], together[2][0][kind, strategy])


def test_sharded_weights_in_bf16_train_as_one_process_does(
    alone: dict[Any, Any], together: dict[int, list[Any]]
) -> None:
    one, other = alone["bert", "sharded bf16"], together[2][0]["bert", "sharded bf16"]
    np.testing.assert_allclose(other["losses"], one["losses"], atol=2e-2)  # bf16 keeps 8 bits of a number


def _go_on(folder: str, steps: int, fsdp: str) -> dict[str, Any]:
    return trained(
        "bert", folder, resume=True, stop_at=steps, max_steps=9, save_strategy="steps", save_steps=3, fsdp=fsdp
    )


@pytest.mark.parametrize("fsdp", ["", "full_shard"])
def test_a_run_goes_on_with_another_number_of_processes(fsdp: str, tmp_path: Path) -> None:
    whole = trained("bert", str(tmp_path / "whole"), max_steps=9)
    run = tmp_path / "run"
    for processes, steps in ((2, 3), (1, 6), (2 if fsdp else 4, 9)):
        results = many(processes, _go_on, str(run), steps, fsdp)
        for result in results:
            if not isinstance(result, dict):
                raise result
    assert len(results[0]["losses"]) == 9
    same(whole, results[0])
