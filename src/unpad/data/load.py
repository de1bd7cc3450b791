"""`load_dataset`: one call for the bundled data, files, folders, data frames, dictionaries and the Hub.

Local files are read by pyarrow straight into memory: no network, no cache, nothing written anywhere. Text stays text:
an empty cell of a text column is `""`, and `NA`, `null` or a date are kept as they stand. Files beyond
`MEMORY_LIMIT`, and options that only the `datasets` library knows, go through that library and its cache. The library
is imported when first needed, since it costs a second.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from unpad.compat import modern
from unpad.data import _find, helpdesk
from unpad.data._datasets import from_addresses, from_cache, from_disk, from_hub, is_saved
from unpad.data._find import COMPRESSIONS, FORMATS, OPTIONS, SPLIT_NAMES, ending, one_line
from unpad.data.columns import first, is_list
from unpad.errors import ArgumentError, DataError, listing, nearest
from unpad.hub.pull import checked
from unpad.notices import say, say_once

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    Loaded: TypeAlias = Dataset | DatasetDict | list[Dataset]

MEMORY_LIMIT = 1 << 30
"""Bytes of local files (compressed ones count five times) that are read into memory; above it `datasets` builds a memory-mapped cache instead."""

_HUB = ("revision", "token", "local_files_only", "force_download")
_FROM_DATASETS = ("Dataset", "DatasetDict", "concatenate_datasets")


def __getattr__(name: str) -> Any:
    if name in _FROM_DATASETS:
        import datasets

        return getattr(datasets, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_dataset(
    path: Any, name: str | None = None, *, data_files: Any = None, split: Any = None, **kwargs: Any
) -> Loaded:
    """Load a data set.

    Args:
        path: one of
            `"helpdesk"`, the bundled data (`name` is `"tickets"`, the default, `"pairs"`, `"entities"`, `"questions"` or `"subjects"`; also `"helpdesk/pairs"`);
            a file: csv, tsv, json, jsonl, ndjson, parquet or txt, also compressed with gz, bz2 or zst;
            a folder with one or more files per split (`train.parquet`, `dev.csv`, `test-00000-of-00002.parquet`, ...;
            `name` then picks a subfolder or the files whose names begin with it), or one that `save_to_disk` wrote; a file
            `labels.json` in it (`{"ner_tags": ["O", "B-PER", ...]}`) names the numbers of label columns;
            a pandas DataFrame, a dict of lists, a list of dicts, or a dict of splits with any of these;
            `"csv"`, `"json"`, `"parquet"` or `"text"` together with `data_files`;
            anything else is an id on the Hub, which `datasets.load_dataset` gets; without a network, what it has in its cache.
        name: configuration of the data set.
        data_files: a file, pattern or list of them, or a dict of split to these.
        split: for instance `"train"`, `"train[:100]"`, `"train[:10%]"`, `"train+test"`, or a list of such.
        kwargs: `delimiter`, `column_names` (csv), `field` (json), `columns` (parquet), `encoding` (all but parquet), `seed`
            (helpdesk); others go to `datasets`. Of an id on the Hub: `revision` (branch, tag or commit), `token` (a token, True: that
            of this machine, False: none), `local_files_only`, `force_download`; these mean nothing for other data. Those that
            old builder scripts took (`lang1="en", lang2="fr"`) name the configuration `en-fr` or `fr-en`.

    Returns:
        A `DatasetDict`; with `split` a `Dataset` (or a list of them for a list).

    Raises:
        DataError: a file is missing, empty or broken, a split or configuration does not exist, the Hub is out of reach.
        ArgumentError: an option does not fit the kind of data.
    """
    kwargs = modern("load_dataset", kwargs)
    hub = checked({key: kwargs.pop(key) for key in _HUB if kwargs.get(key) is not None})
    if kwargs.pop("trust_remote_code", None):
        say_once("trust_remote_code has no effect on a data set: its code is never run")
    if isinstance(path, os.PathLike):
        path = os.fspath(path)
    if not isinstance(path, str):
        _refuse_options("data that is in memory already", kwargs, name=name, data_files=data_files)
        return _pick(_from_memory(path), split)
    if path == "helpdesk" or path.startswith("helpdesk/"):
        seed = kwargs.pop("seed", 0)
        _refuse_options("helpdesk", kwargs, data_files=data_files)
        config = path.partition("/")[2] or name or "tickets"
        return _pick(helpdesk.load(config, seed), split)

    local = os.path.expanduser(path)
    if os.path.isfile(local):
        _refuse_options(f"the file {path!r}", {}, name=name, data_files=data_files)
        return _read({"train": [local]}, split, kwargs)
    if path in OPTIONS and data_files is not None:
        return _from_files(path, _find.by_split(data_files), data_files, split, kwargs)
    if os.path.isdir(local):
        if data_files is not None:
            named = _find.by_split(data_files, local)
            return _from_files(None, named, named, split, kwargs)
        if is_saved(local):
            _refuse_options(f"the saved data set {path!r}", kwargs, name=name)
            return _pick(from_disk(local), split)
        return _read(_find.plan_folder(local, name), split, kwargs, names=os.path.join(local, _find.NAMES_FILE))
    if path in OPTIONS:
        raise DataError(f"load_dataset({path!r}) needs files; pass data_files='your.{path}' or the file itself.")
    if _find.looks_like_a_path(path):
        raise _find.missing(local)
    return from_hub(path, name, data_files, split, hub, kwargs)


def class_names(dataset: Any, column: str) -> list[str] | None:
    """The label names of a `ClassLabel` column or of a column of lists of them; None for any other column.

    `dataset` is a `Dataset` or a `DatasetDict` (its first split counts). A missing column is a `DataError`.
    """
    dataset = next(iter(_splits(dataset).values()))
    _require_column(dataset, column, None)
    feature = dataset.features[column]
    while not hasattr(feature, "names"):
        feature = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
        if feature is None:
            return None
    return list(feature.names)


def encode_labels(dataset: Any, column: str) -> Any:
    """The same data set with the string labels of `column` as `ClassLabel` ids, sorted by name, the same in all splits.

    `dataset` is a `Dataset` or a `DatasetDict`, whose `train` split (or else the first one) defines the names. Works
    for one label per row and for lists of labels (tags per word). A column that is not of strings comes back unchanged.
    Raises `DataError` for a missing column, a missing label, or a label that the defining split does not have.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from datasets import ClassLabel, DatasetDict, List

    splits = _splits(dataset)
    origin = "train" if "train" in splits else next(iter(splits))
    found: dict[str, tuple[Any, np.ndarray]] = {}  # split -> its labels one after another, and their rows
    for split, part in splits.items():
        _require_column(part, column, split)
        array = part.with_format("arrow")[:][column].combine_chunks()
        listed = is_list(array.type)
        inner = array.type.value_type if listed else array.type
        if not (pa.types.is_string(inner) or pa.types.is_large_string(inner)):
            if split == origin:
                return dataset
            kinds = f"strings in split {origin!r} but {inner} in split {split!r}"
            raise DataError(f"labels of {column!r} are {kinds}; make them the same in all splits.")
        flat = array.flatten() if listed else array
        rows = pc.list_parent_indices(array).to_numpy() if listed else np.arange(len(array))
        absent = array.is_null().to_numpy(zero_copy_only=False).copy()
        absent[rows[pc.fill_null(pc.equal(flat, ""), True).to_numpy(zero_copy_only=False)]] = True  # "": an empty cell
        if (row := first(absent)) is not None:
            raise DataError(f"row {row}{_of(split)} has no label in {column!r}; fill it in or filter the row out.")
        found[split] = flat, rows

    names = sorted(pc.unique(found[origin][0]).to_pylist())
    if not names:
        raise DataError(f"column {column!r}{_of(origin)} has no labels at all; check the file or the filter before.")
    feature = List(ClassLabel(names=names)) if listed else ClassLabel(names=names)
    encoded = {}
    for split, (flat, rows) in found.items():
        ids = pc.index_in(flat, value_set=pa.array(names, flat.type)).cast(pa.int64())
        if (at := first(ids.is_null().to_numpy(zero_copy_only=False))) is not None:
            bad = flat[at].as_py()
            wrong = f"label {bad!r} in row {rows[at]}{_of(split)} does not occur in {origin!r}{nearest(bad, names)}"
            known = f"column {column!r} has {len(names)} labels there: {listing(names)}"
            raise DataError(f"{wrong}; {known}. Fix the row, or add it to {origin!r}.")
        if listed:
            bounds = np.searchsorted(rows, np.arange(len(splits[split]) + 1))
            ids = pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), ids)
        encoded[split] = _with_column(splits[split], column, ids, feature)
    say(f"labels of {column!r} are strings: mapped to {len(names)} ids in sorted order: {listing(names)}")
    return DatasetDict(encoded) if isinstance(dataset, Mapping) else encoded[""]


def _with_column(part: Dataset, column: str, values: Any, feature: Any) -> Dataset:
    """The same split, with its format, and other values in one column."""
    from datasets import Dataset

    table = part.with_format("arrow")[:]
    table = table.set_column(table.column_names.index(column), column, values)
    info = part.info.copy()
    info.features = part.features.copy()
    info.features[column] = feature
    table = table.replace_schema_metadata(None).cast(info.features.arrow_schema)
    fresh = Dataset(table, info=info, split=part.split)
    form = dict(part.format)
    if form["type"] is not None or form["columns"] != part.column_names:
        fresh.set_format(**form.pop("format_kwargs"), **form)
    return fresh


def _splits(dataset: Any) -> dict[str, Any]:
    """The splits by name; of a `Dataset` alone, itself under an empty name."""
    if isinstance(dataset, Mapping) and not dataset:
        raise DataError("the data set has no splits; load or build one with at least 'train'.")
    return dict(dataset) if isinstance(dataset, Mapping) else {"": dataset}


def _require_column(dataset: Any, column: str, split: str | None) -> None:
    if column not in (names := dataset.column_names):
        near = nearest(column, names)
        raise DataError(f"there is no column {column!r}{_of(split)}{near}; the columns are: {listing(names)}.")


def _of(split: str | None) -> str:
    return f" of {split!r}" if split else ""


# ---- splits ----


def _pick(dataset: DatasetDict, split: Any) -> Loaded:
    """The whole, or what `split` names, with the slicing rules of the `datasets` library."""
    from datasets import ReadInstruction, concatenate_datasets

    if split is None:
        return dataset
    if isinstance(split, (list, tuple)):
        return [_pick(dataset, one) for one in split]
    if str(split) == "all":
        return concatenate_datasets(list(dataset.values()))
    sizes = {key: len(part) for key, part in dataset.items()}
    try:
        instruction = split if isinstance(split, ReadInstruction) else ReadInstruction.from_spec(str(split))
        ranges = instruction.to_absolute(sizes)
    except (ValueError, AssertionError) as error:
        if found := re.search(r'Unknown split "([^"]*)"', str(error)):
            wrong = f"there is no split {found[1]!r}{nearest(found[1], sizes)}; the data has: {listing(sizes)}."
        else:
            how = "write 'train', 'train[:100]' or 'train[:10%]'"
            wrong = f"split={str(split)!r} cannot be read ({one_line(error)}); {how}."
        raise DataError(wrong) from None
    parts = []
    for piece in ranges:
        part = dataset[piece.splitname]
        begin, end = piece.from_ or 0, len(part) if piece.to is None else piece.to
        parts.append(part if (begin, end) == (0, len(part)) else part.select(range(begin, end)))
    return parts[0] if len(parts) == 1 else concatenate_datasets(parts)


# ---- data in memory ----


def _from_memory(data: Any) -> DatasetDict:
    """Splits from a frame, a dict of lists, a list of dicts, a dict of splits, or a data set."""
    from datasets import Dataset, DatasetDict

    if isinstance(data, DatasetDict):
        return data
    if isinstance(data, Dataset):
        return DatasetDict({str(data.split or "train"): data})
    if _is_splits(data):
        return DatasetDict({str(key): _one_split(value, str(key)) for key, value in data.items()})
    return DatasetDict({"train": _one_split(data, "train")})


def _is_splits(data: Any) -> bool:
    """A dict whose values are splits, not columns: frames, data sets or dicts, or lists of dicts under split names."""
    import pandas
    from datasets import Dataset

    from unpad.data._read import is_rows

    if not isinstance(data, Mapping) or not data:
        return False
    return all(
        isinstance(value, (Mapping, Dataset, pandas.DataFrame)) or (key in SPLIT_NAMES and is_rows(value))
        for key, value in data.items()
    )


def _one_split(data: Any, split: str) -> Dataset:
    import pandas
    import pyarrow as pa
    from datasets import Dataset

    from unpad.data._read import columns_of, plain

    if isinstance(data, Dataset):
        return data
    if isinstance(data, (list, tuple)):
        bad = next((i for i, row in enumerate(data) if not isinstance(row, Mapping)), None)
        if bad is not None:
            how = "give a list of dicts such as {'text': ..., 'label': ...}"
            raise DataError(f"row {bad} of {split!r} is {data[bad]!r:.60}, not a dict; {how}.")
        data = columns_of(data)
    if isinstance(data, pandas.DataFrame):
        twice = [str(c) for c in data.columns[data.columns.duplicated()]]
        if twice:
            raise DataError(f"the data frame has the column {twice[0]!r} twice; rename or drop one of them.")
        sizes = dict.fromkeys(map(str, data.columns), len(data))
    elif isinstance(data, Mapping):
        how = "give every column a list with one value per row"
        for key, value in data.items():
            if not hasattr(value, "__len__") or isinstance(value, (str, bytes, Mapping)):
                raise DataError(f"column {key!r} of {split!r} is {value!r:.60}, which is no list; {how}.")
        sizes = {str(key): len(value) for key, value in data.items()}
        if len(set(sizes.values())) > 1:
            said = listing(f"{key} {n}" for key, n in sizes.items())
            raise DataError(f"the columns of {split!r} have different lengths: {said}; {how}.")
    else:
        allowed = "a path, a pandas DataFrame, a dict of lists, a list of dicts or a dict of splits"
        raise DataError(f"data of type {type(data).__name__!r} cannot be loaded; pass {allowed}.")
    if not any(sizes.values()):
        raise DataError(f"the data of {split!r} has no rows; pass at least one.")
    try:
        if isinstance(data, pandas.DataFrame):
            dataset = Dataset(plain(pa.Table.from_pandas(data, preserve_index=False)))
        else:
            dataset = Dataset.from_dict(dict(data))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        wrong = f"the data of {split!r} does not fit into columns of one type each ({one_line(error)})"
        raise DataError(f"{wrong}; make all values of a column strings, or all numbers.") from None
    return Dataset(dataset.data, info=dataset.info, split=split)


def _refuse_options(what: str, options: Mapping[str, Any], **named: Any) -> None:
    for key, value in {**named, **options}.items():
        if value is not None or key in options:
            raise ArgumentError(f"{what} takes no {key}= ({value!r:.60}); leave it out.")


# ---- local files ----


def _from_files(
    builder: str | None, named: dict[str, list[str]], data_files: Any, split: Any, options: dict[str, Any]
) -> Loaded:
    """Files named one by one, by pattern or by split; addresses in the network are left to `datasets`."""
    address = next((one for names in named.values() for one in names if "://" in one), None)
    if address is not None:
        kind = builder or FORMATS.get(ending(address), "text")
        return from_addresses(kind, data_files, split, options)
    return _read(_find.plan_files(named), split, options, builder)


def _read(
    plan: dict[str, list[str]], split: Any, options: dict[str, Any], builder: str | None = None, names: str = ""
) -> Loaded:
    """Read the planned files into memory, or leave them to `datasets` where they are too large or options ask for it.

    `names` is a file with the names of the numbers in label columns, if it exists.
    """
    from datasets import Dataset, DatasetDict

    from unpad.data._read import formats_of, joined, read_tables

    kinds = formats_of([file for files in plan.values() for file in files], builder)
    if len(set(kinds.values())) > 1:
        _refuse_options("files of several formats", options)
    else:
        kind = next(iter(kinds.values()))
        size = sum(os.path.getsize(f) * (5 if f.lower().endswith(COMPRESSIONS) else 1) for f in kinds)
        if size > MEMORY_LIMIT:
            where = "into the cache of the datasets library, not memory"
            say_once(f"files of {size / 1e9:.1f} GB are converted once {where}")
        if size > MEMORY_LIMIT or options.keys() - OPTIONS[kind]:
            return from_cache(kind, plan, split, options)
    tables = read_tables(kinds, options)
    parts = {key: Dataset(joined([tables[f] for f in files], files), split=key) for key, files in plan.items()}
    if os.path.isfile(names) and names not in kinds:
        parts = {key: _with_names(part, names) for key, part in parts.items()}
    return _pick(DatasetDict(parts), split)


def _with_names(part: Dataset, file: str) -> Dataset:
    """The same split, with the columns of whole numbers (or of lists of them) that a `labels.json` names as class labels."""
    import json

    import pyarrow as pa
    from datasets import ClassLabel, List

    try:
        with open(file, encoding="utf-8") as opened:
            columns = json.load(opened)
    except ValueError as error:
        raise DataError(f"{file} is no JSON ({one_line(error)}); mend or remove it.") from None
    for column, names in columns.items() if isinstance(columns, dict) else ():
        kind = part.data.schema.field(column).type if column in part.column_names else pa.null()
        listed = pa.types.is_list(kind)
        inner = kind.value_type if listed else kind
        if pa.types.is_integer(inner) and isinstance(names, list):
            feature = ClassLabel(names=[str(name) for name in names])
            values = part.with_format("arrow")[:][column].cast(pa.list_(pa.int64()) if listed else pa.int64())
            part = _with_column(part, column, values, List(feature) if listed else feature)
    return part
