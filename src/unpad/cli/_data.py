"""The data of a command: which splits it learns from and judges on, and what is held out when there is no such split."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unpad.errors import DataError, listing, nearest
from unpad.notices import say

HELD_OUT = 0.1
"""Share of the training rows that is held out for evaluation when the data have no split for it."""


@dataclass(frozen=True)
class Splits:
    """What a run learns from and is judged on."""

    train: Any
    eval: Any
    """None when nothing is evaluated."""
    eval_name: str
    """Name of the evaluation split, for people."""
    others: tuple[str, ...] = ()
    """Splits of the data that the run does not touch."""


def load_splits(
    data: str,
    data_name: str | None,
    train_split: str,
    eval_split: str | None,
    eval_data: str | None,
    seed: int,
) -> Splits:
    """The training and the evaluation split.

    Without `eval_split` the evaluation split is "validation"; where there is none, a tenth of the training rows, drawn with
    `seed`, is held out, and that is said. Raises DataError for splits that do not exist and for empty ones.
    """
    raw = _load(data, data_name)
    train = _split(raw, train_split, data, data_name)
    if len(train) == 0:
        raise DataError(f"split {train_split!r} of {data!r} has no rows; there is nothing to learn from")
    others = tuple(name for name in raw if name not in (train_split, eval_split))
    if eval_data is not None:
        other = _load(eval_data, None)
        name = eval_split or next((n for n in ("validation", "test") if n in other), next(iter(other)))
        return Splits(train, _split(other, name, eval_data, None), f"{name} of {eval_data}", others)
    if eval_split is not None:
        return Splits(train, _split(raw, eval_split, data, data_name), eval_split, others)
    if "validation" in raw and train_split != "validation":
        return Splits(train, raw["validation"], "validation", tuple(n for n in others if n != "validation"))
    if len(train) < 2:
        say(f"{data} has no validation split and a single row: nothing is evaluated")
        return Splits(train, None, "", others)
    kept, held = _hold_out(train, seed)
    say(
        f"{data} has no validation split: {len(held)} of its {len(train)} training rows, drawn with seed={seed}, are held out "
        "for evaluation; give --eval_split or --eval_data to choose"
    )
    return Splits(kept, held, "held out of " + train_split, others)


def load_split(data: str, data_name: str | None, split: str) -> Any:
    """One split of a data set, by name or in the notation "train[:100]"."""
    return _split(_load(data, data_name), split, data, data_name)


def slug(data: str, data_name: str | None = None) -> str:
    """A short name for a data set that can be part of a folder's name."""
    path = Path(data)
    text = (
        path.name.split(".")[0]
        if os.path.exists(data) or path.is_absolute() or data.startswith(".")
        else data
    )
    return re.sub(r"[^\w.]+", "-", f"{text} {data_name or ''}").strip("-.").lower() or "data"


def _load(data: str, data_name: str | None) -> Any:
    from unpad.data.load import load_dataset

    return load_dataset(data, data_name)


def _split(raw: Any, split: str, data: str, data_name: str | None) -> Any:
    from unpad.data.load import load_dataset

    if split in raw:
        return raw[split]
    if "[" in split or "+" in split:
        return load_dataset(data, data_name, split=split)
    raise DataError(f"{data!r} has no split {split!r}{nearest(split, raw)}; its splits are: {listing(raw)}")


def _hold_out(train: Any, seed: int) -> tuple[Any, Any]:
    """Two parts of `train`, each in the order of the rows; which rows are held out depends on their number and `seed` alone."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(train))
    count = max(1, round(HELD_OUT * len(train)))
    return train.select(np.sort(order[count:])), train.select(np.sort(order[:count]))
