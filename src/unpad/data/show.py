"""`show`: the first rows of a data set as a table to look at, in a notebook or in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unpad.errors import ArgumentError, DataError, listing

if TYPE_CHECKING:
    import pandas as pd


def show(dataset: Any, rows: int = 10, width: int = 80) -> pd.DataFrame:
    """The first `rows` of a `datasets.Dataset` as a DataFrame, with the names of labels beside their numbers.

    A column `label` of classes is followed by `label_name`, one of lists of classes (tags of words) too. Texts longer than `width`
    characters and lists longer than `width` entries are cut, and end with an ellipsis. The data set stays as it is.

    Raises DataError for what is no data set, or several splits; ArgumentError for numbers below 1.
    """
    import pandas as pd

    for name, number in (("rows", rows), ("width", width)):
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ArgumentError(f"{name}={number!r} must be a whole number, 1 or more")
    if isinstance(dataset, Mapping) and all(hasattr(split, "features") for split in dataset.values()):
        splits = list(dataset)
        raise DataError(f"show: this has {listing(splits)}; pass one of them, as in data[{splits[0]!r}]")
    if not hasattr(dataset, "features") or not hasattr(dataset, "with_format"):
        given = type(dataset).__name__
        raise DataError(f"show takes a datasets.Dataset, not a {given}; make one, e.g. with load_dataset")
    found = dataset.with_format(None)
    found = found.take(rows) if not hasattr(found, "__len__") else found.select(range(min(rows, len(found))))
    values = list(found)
    table: dict[str, list[Any]] = {}
    for name in dataset.features or (values[0] if values else ()):
        table[name] = [_short(row[name], width) for row in values]
        kind: Any = (dataset.features or {}).get(name)
        kind = getattr(kind, "feature", kind)
        if hasattr(kind, "int2str"):
            table[f"{name}_name"] = [_short(_names(row[name], kind.names), width) for row in values]
    return pd.DataFrame(table)


def _short(value: Any, width: int) -> Any:
    if isinstance(value, str) and len(value) > width:
        return value[: width - 1] + "…"
    if isinstance(value, list) and len(value) > width:
        return [*value[: width - 1], "…"]
    return value


def _names(value: Any, names: list[str]) -> Any:
    """The names of a class or of a list of classes; None where there is none, as for labels of -1."""
    if isinstance(value, list):
        return [_names(one, names) for one in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
