"""`load_dataset`: one call for the bundled data, files, folders, data frames, dictionaries and the Hub.

Local files are read by pyarrow straight into memory: no network, no cache, nothing written anywhere. Text stays text:
an empty cell of a text column is `""`, and `NA`, `null` or a date are kept as they stand. Files beyond
`MEMORY_LIMIT`, and options that only the `datasets` library knows, go through that library and its cache. The library
is imported when first needed, since it costs a second.
"""

from __future__ import annotations

import glob
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from unpad.data import helpdesk
from unpad.errors import ArgumentError, DataError, UnpadError, listing, nearest
from unpad.notices import say, say_once

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, DatasetDict

    Loaded: TypeAlias = Dataset | DatasetDict | list[Dataset]

MEMORY_LIMIT = 1 << 30
"""Bytes of local files (compressed ones count five times) that are read into memory; above it `datasets` builds a memory-mapped cache instead."""

FORMATS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json",
           ".parquet": "parquet", ".txt": "text"}  # fmt: skip
COMPRESSIONS = (".gz", ".bz2", ".zst")
_OPTIONS = {"csv": {"delimiter", "sep", "column_names", "encoding"}, "json": {"field", "encoding"},
            "parquet": {"columns"}, "text": {"encoding"}}  # fmt: skip
_SPLIT_NAMES = {"train": "train", "training": "train", "validation": "validation", "valid": "validation",
                "val": "validation", "dev": "validation", "test": "test", "testing": "test"}  # fmt: skip
_SPLIT_IN_NAME = re.compile(rf"(?:^|[-_. ])({'|'.join(_SPLIT_NAMES)})(?=$|[-_. ])", re.IGNORECASE)
_SIDE_FILES = re.compile(
    r"(dataset_infos?|dataset_dict|state)\.json|(readme|license|licence|notice)\b.*", re.IGNORECASE
)
_ALLOWED = f"{', '.join(FORMATS)} (also with {', '.join(COMPRESSIONS)})"
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
            `"helpdesk"`, the bundled data (`name` is `"tickets"`, the default, or `"pairs"`; also `"helpdesk/pairs"`);
            a file: csv, tsv, json, jsonl, ndjson, parquet or txt, also compressed with gz, bz2 or zst;
            a folder with one or more files per split (`train.parquet`, `dev.csv`, `test-00000-of-00002.parquet`, ...;
            `name` then picks a subfolder or the files whose names begin with it), or one that `save_to_disk` wrote;
            a pandas DataFrame, a dict of lists, a list of dicts, or a dict of splits with any of these;
            `"csv"`, `"json"`, `"parquet"` or `"text"` together with `data_files`;
            anything else is an id on the Hugging Face Hub and goes to `datasets.load_dataset` as it is.
        name: configuration of the data set.
        data_files: a file, pattern or list of them, or a dict of split to these.
        split: for instance `"train"`, `"train[:100]"`, `"train[:10%]"`, `"train+test"`, or a list of such.
        kwargs: `delimiter`, `column_names` (csv), `field` (json), `columns` (parquet), `encoding` (all but parquet), `seed`
            (helpdesk); others go to `datasets`.

    Returns:
        A `DatasetDict`; with `split` a `Dataset` (or a list of them for a list).

    Raises:
        DataError: a file is missing, empty or broken, a split or configuration does not exist, the Hub is out of reach.
        ArgumentError: an option does not fit the kind of data.
    """
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
    if path in _OPTIONS and data_files is not None:
        return _from_files(path, data_files, split, kwargs)
    if os.path.isdir(local):
        if data_files is not None:
            return _from_files(None, _under(local, data_files), split, kwargs)
        if _is_saved(local):
            _refuse_options(f"the saved data set {path!r}", kwargs, name=name)
            return _pick(_from_disk(local), split)
        return _read(_plan_folder(local, name), split, kwargs)
    if path in _OPTIONS:
        raise DataError(
            f"load_dataset({path!r}) needs files; pass data_files='your.{path}' or the file itself."
        )
    if _looks_like_a_path(path):
        raise _missing(local)
    return _from_hub(path, name, data_files, split, kwargs)


def class_names(dataset: Any, column: str) -> list[str] | None:
    """The label names of a `ClassLabel` column or of a column of lists of them; None for any other column.

    `dataset` is a `Dataset` or a `DatasetDict` (its first split counts). A missing column is a `DataError`.
    """
    if isinstance(dataset, Mapping):
        if not dataset:
            raise DataError("the data set has no splits; load or build one with at least 'train'.")
        dataset = next(iter(dataset.values()))
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
    from datasets import ClassLabel, Dataset, DatasetDict, List

    splits: dict[str, Any] = dict(dataset) if isinstance(dataset, Mapping) else {"": dataset}
    first = "train" if "train" in splits else next(iter(splits), None)
    if first is None:
        raise DataError("the data set has no splits; load or build one with at least 'train'.")
    arrays: dict[str, Any] = {}
    listed = False
    for split, part in splits.items():
        _require_column(part, column, split)
        array = part.with_format("arrow")[:][column].combine_chunks()
        kind = array.type
        nested = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        inner = kind.value_type if nested else kind
        if not (pa.types.is_string(inner) or pa.types.is_large_string(inner)):
            if split == first:
                return dataset
            raise DataError(
                f"labels of {column!r} are strings in split {first!r} but {inner} in split {split!r}; "
                "make them the same in all splits."
            )
        if array.null_count or (nested and array.flatten().null_count):
            row = next(
                i for i, value in enumerate(array.to_pylist()) if value is None or (nested and None in value)
            )
            raise DataError(
                f"row {row}{_of(split)} has no label in {column!r}; fill it in or filter the row out."
            )
        arrays[split], listed = array, nested

    values = arrays[first].flatten() if listed else arrays[first]
    names = sorted(pc.unique(values).to_pylist())
    if not names:
        raise DataError(
            f"column {column!r}{_of(first)} has no labels at all; check the file or the filter before."
        )
    feature = List(ClassLabel(names=names)) if listed else ClassLabel(names=names)
    encoded = {}
    for split, array in arrays.items():
        flat = array.flatten() if listed else array
        ids = pc.index_in(flat, value_set=pa.array(names, flat.type)).cast(pa.int64())
        if ids.null_count:
            known = set(names)
            rows = array.to_pylist()
            row = next(i for i, r in enumerate(rows) if not (set(r) if listed else {r}) <= known)
            bad = next(label for label in (rows[row] if listed else [rows[row]]) if label not in known)
            raise DataError(
                f"label {bad!r} in row {row}{_of(split)} does not occur in {first!r}{nearest(bad, names)}; "
                f"column {column!r} has {len(names)} labels there: {listing(names)}. Fix the row, or add it to {first!r}."
            )
        if listed:
            lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
            offsets = pa.array([0, *lengths.cumsum().tolist()], pa.int32())
            ids = pa.ListArray.from_arrays(offsets, ids)
        part, table = splits[split], splits[split].with_format("arrow")[:]
        table = table.set_column(table.column_names.index(column), column, ids)
        info = part.info.copy()
        info.features = part.features.copy()
        info.features[column] = feature
        table = table.replace_schema_metadata(None).cast(info.features.arrow_schema)
        fresh = Dataset(table, info=info, split=part.split)
        form = dict(part.format)
        if form["type"] is not None or form["columns"] != part.column_names:
            kwargs = form.pop("format_kwargs")
            fresh.set_format(**form, **kwargs)
        encoded[split] = fresh
    say(f"labels of {column!r} are strings: mapped to {len(names)} ids in sorted order: {listing(names)}")
    return DatasetDict(encoded) if isinstance(dataset, Mapping) else encoded[""]


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
        unknown = re.search(r'Unknown split "([^"]*)"', str(error))
        if unknown:
            wrong = unknown.group(1)
            raise DataError(
                f"there is no split {wrong!r}{nearest(wrong, sizes)}; the data has: {listing(sizes)}."
            ) from None
        raise DataError(
            f"split={str(split)!r} cannot be read ({_one_line(error)}); write 'train', 'train[:100]' or 'train[:10%]'."
        ) from None
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

    if not isinstance(data, Mapping) or not data:
        return False
    return all(
        isinstance(value, (Mapping, Dataset, pandas.DataFrame)) or (key in _SPLIT_NAMES and _is_rows(value))
        for key, value in data.items()
    )


def _one_split(data: Any, split: str) -> Dataset:
    import pandas
    import pyarrow as pa
    from datasets import Dataset

    if isinstance(data, Dataset):
        return data
    if isinstance(data, pandas.DataFrame):
        twice = [str(c) for c in data.columns[data.columns.duplicated()]]
        if twice:
            raise DataError(f"the data frame has the column {twice[0]!r} twice; rename or drop one of them.")
        rows = len(data)
    elif isinstance(data, Mapping):
        for key, value in data.items():
            if not hasattr(value, "__len__") or isinstance(value, (str, bytes, Mapping)):
                raise DataError(
                    f"column {key!r} of {split!r} is {_short(value)}, which is no list; "
                    "give a list with one value per row for every column."
                )
        lengths = {str(key): len(value) for key, value in data.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(
                f"the columns of {split!r} have different lengths: "
                f"{listing(f'{key} {n}' for key, n in lengths.items())}; give every column one value per row."
            )
        rows = max(lengths.values(), default=0)
    elif isinstance(data, (list, tuple)):
        bad = next((i for i, row in enumerate(data) if not isinstance(row, Mapping)), None)
        if bad is not None:
            raise DataError(
                f"row {bad} of {split!r} is {_short(data[bad])}, not a dict; "
                "give a list of dicts such as {'text': ..., 'label': ...}."
            )
        rows = len(data)
        data = {
            key: [row.get(key) for row in data] for key in dict.fromkeys(key for row in data for key in row)
        }
    else:
        raise DataError(
            f"data of type {type(data).__name__!r} cannot be loaded; "
            "pass a path, a pandas DataFrame, a dict of lists, a list of dicts or a dict of splits."
        )
    if rows == 0 or len(getattr(data, "columns", data)) == 0:
        raise DataError(f"the data of {split!r} has no rows; pass at least one.")
    try:
        if isinstance(data, pandas.DataFrame):
            dataset = Dataset(_plain(pa.Table.from_pandas(data, preserve_index=False)))
        else:
            dataset = Dataset.from_dict(dict(data))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"the data of {split!r} does not fit into columns of one type each ({_one_line(error)}); "
            "make all values of a column strings, or all numbers."
        ) from None
    return Dataset(dataset.data, info=dataset.info, split=split)


def _refuse_options(what: str, options: Mapping[str, Any], **named: Any) -> None:
    given = [key for key, value in named.items() if value is not None] + list(options)
    if given:
        raise ArgumentError(
            f"{what} takes no {given[0]}= ({_short({**named, **options}[given[0]])}); leave it out."
        )


# ---- files and folders ----


def _from_disk(folder: str) -> DatasetDict:
    from datasets import DatasetDict, load_from_disk

    try:
        found = load_from_disk(folder)
    except Exception as error:
        raise DataError(
            f"the saved data set {os.path.abspath(folder)} cannot be read ({_one_line(error)}); save it again."
        ) from None
    dataset = found if isinstance(found, DatasetDict) else DatasetDict({str(found.split or "train"): found})
    for split, part in dataset.items():
        if len(part) == 0:
            raise DataError(
                f"split {split!r} of {os.path.abspath(folder)} has no rows; save it again with some."
            )
    return dataset


def _is_saved(folder: str) -> bool:
    has = lambda name: os.path.isfile(os.path.join(folder, name))  # noqa: E731
    return has("dataset_dict.json") or (has("state.json") and has("dataset_info.json"))


def _ending(file: str) -> str:
    """The ending that says the format: `.csv` for `a.csv` and `a.csv.gz`; empty when it is none of ours."""
    stem = file.split("?")[0].lower()
    for compression in COMPRESSIONS:
        stem = stem.removesuffix(compression)
    ending = os.path.splitext(stem)[1]
    return ending if ending in FORMATS else ""


def _looks_like_a_path(path: str) -> bool:
    """Does a text that names nothing here mean a local file or folder, rather than an id on the Hub?"""
    if "://" in path:
        return False
    if (
        "." in path
        and os.path.isdir(os.path.dirname(path) or ".")
        and re.search(r"\.[A-Za-z]{2,7}(\.gz)?$", path)
    ):
        return True  # a misspelt or foreign ending, such as a.cvs or a.xlsx
    return bool(_ending(path)) or path.startswith((".", "/", "~")) or path.count("/") > 1 or "\\" in path


def _missing(file: str) -> DataError:
    """The error for a path that is not there, with what lies near it."""
    full = os.path.abspath(file)
    folder = os.path.dirname(full)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    if folder != os.path.dirname(full):
        return DataError(
            f"{full} does not exist, nor does its folder, only {folder} is there; correct the path."
        )
    here = sorted(os.listdir(folder))
    files = [n for n in here if _ending(n) or os.path.isdir(os.path.join(folder, n))]
    hint = nearest(os.path.basename(full), here)
    there = f"that folder holds: {listing(files)}" if files else "that folder holds no data files"
    return DataError(f"{full} does not exist{hint}; {there}. Correct the path.")


def _under(folder: str, data_files: Any) -> Any:
    """`data_files` as given, with relative names taken from `folder`."""
    if isinstance(data_files, Mapping):
        return {key: _under(folder, value) for key, value in data_files.items()}
    if isinstance(data_files, (list, tuple)):
        return [_under(folder, value) for value in data_files]
    return data_files if "://" in str(data_files) else os.path.join(folder, os.path.expanduser(data_files))


def _from_files(builder: str | None, data_files: Any, split: Any, kwargs: dict[str, Any]) -> Loaded:
    """Files named one by one, by pattern or by split; addresses in the network are left to `datasets`."""
    by_split = data_files if isinstance(data_files, Mapping) else {"train": data_files}
    plan: dict[str, list[str]] = {}
    for key, value in by_split.items():
        names = [os.fspath(v) for v in (value if isinstance(value, (list, tuple)) else [value])]
        if any("://" in one for one in names):
            return _from_hub(
                builder or FORMATS.get(_ending(names[0]), "text"), None, data_files, split, kwargs
            )
        plan[str(key)] = []
        for one in names:
            one = os.path.expanduser(one)
            if os.path.isfile(one):
                plan[str(key)].append(one)
            elif glob.has_magic(one):
                found = sorted(f for f in glob.glob(one, recursive=True) if os.path.isfile(f))
                if not found:
                    raise DataError(f"no file fits the pattern {os.path.abspath(one)}; correct data_files.")
                plan[str(key)] += found
            elif os.path.isdir(one):
                raise DataError(f"{os.path.abspath(one)} is a folder; name its files, or write '{one}/*'.")
            else:
                raise _missing(one)
        if not plan[str(key)]:
            raise DataError(f"data_files names no file for split {str(key)!r}; name at least one.")
    return _read(plan, split, kwargs, builder)


def _plan_folder(folder: str, name: str | None) -> dict[str, list[str]]:
    """Which files of a folder (and of its subfolders, one level down) make which split."""
    full = os.path.abspath(folder)
    if name is not None and os.path.isdir(os.path.join(folder, name)):
        return _plan_folder(os.path.join(folder, name), None)
    root = Path(folder)
    found = [f for pattern in ("*", "*/*") for f in sorted(root.glob(pattern)) if f.is_file()]
    files = [
        f
        for f in found
        if _ending(f.name) and not _SIDE_FILES.fullmatch(f.name) and not f.name.startswith((".", "_"))
    ]
    if name is not None:
        files = [f for f in files if re.match(re.escape(name) + r"($|[-_. ])", f.name)]
        if not files:
            raise DataError(
                f"{full} has no subfolder or files for the configuration {name!r}; "
                f"it holds: {listing(sorted(os.listdir(folder)))}."
            )
    if not files:
        raise DataError(
            f"{full} holds no data files; it needs files such as train.csv, ending in {_ALLOWED}."
        )

    plan: dict[str, list[Path]] = {}
    rest = []
    for file in files:
        parts = file.relative_to(root).parts
        named = _SPLIT_IN_NAME.search(parts[-1]) or (
            _SPLIT_IN_NAME.fullmatch(parts[0]) if len(parts) > 1 else None
        )
        if named:
            plan.setdefault(_SPLIT_NAMES[named.group(1).lower()], []).append(file)
        else:
            rest.append(file)
    if not plan:
        top = [f for f in rest if f.parent == root] or rest
        plan["train"] = top
        if len(top) > 1:
            say_once(
                f"no file in {full} is named by a split: all {len(top)} make 'train': {listing(f.name for f in top)}"
            )
    elif rest:
        say_once(f"left out of {full}, not named by a split: {listing(f.name for f in rest)}")
    for split, chosen in plan.items():
        endings = sorted({_ending(f.name) for f in chosen})
        if len(endings) > 1:
            raise DataError(
                f"{full} has files of different formats for split {split!r}: {listing(f.name for f in chosen)}; "
                "keep one, or name the files with data_files=."
            )
    order = [s for s in ("train", "validation", "test") if s in plan]
    return {split: [str(f) for f in plan[split]] for split in order}


def _read(
    plan: dict[str, list[str]], split: Any, kwargs: dict[str, Any], builder: str | None = None
) -> Loaded:
    """Read the planned files into memory, or hand them to `datasets` where they are too large or options ask for it."""
    from datasets import Dataset, DatasetDict

    files = [f for chosen in plan.values() for f in chosen]
    for file in files:
        if builder is None and not _ending(file):
            raise DataError(
                f"{os.path.abspath(file)} has an ending that is not known; allowed are {_ALLOWED}."
            )
        if os.path.getsize(file) == 0:
            raise DataError(
                f"{os.path.abspath(file)} is empty (0 bytes); a data file needs at least one row."
            )
    formats = {builder or FORMATS[_ending(f)] for f in files}
    size = sum(os.path.getsize(f) * (5 if f.lower().endswith(COMPRESSIONS) else 1) for f in files)
    if len(formats) == 1:
        kind = next(iter(formats))
        if size > MEMORY_LIMIT or set(kwargs) - _OPTIONS[kind]:
            return _through_datasets(kind, plan, split, kwargs, size)
    else:
        _refuse_options("files of several formats", kwargs)

    kinds = {file: builder or FORMATS[_ending(file)] for file in files}
    tables = {file: _table(file, kinds[file], kwargs) for file in files}
    sheets = {file: table for file, table in tables.items() if kinds[file] == "csv"}
    types = _common_types(sheets)
    for file, table in sheets.items():
        other = {f.name: types[f.name] for f in table.schema if f.type != types[f.name]}
        if other:  # a second pass is rare and cheaper than reading every cell as text first
            tables[file] = _table(file, "csv", {**kwargs, "types": other})
    parts = {
        key: Dataset(_joined([tables[f] for f in chosen], chosen), split=key) for key, chosen in plan.items()
    }
    return _pick(DatasetDict(parts), split)


def _through_datasets(
    kind: str, plan: dict[str, list[str]], split: Any, kwargs: dict[str, Any], size: int
) -> Loaded:
    if size > MEMORY_LIMIT:
        say_once(
            f"files of {size / 1e9:.1f} GB are converted once into the cache of the datasets library, not memory"
        )
    options = dict(kwargs)
    if kind == "csv":
        options.setdefault("keep_default_na", False)  # "" and "NA" stay text
        if all(_ending(f) == ".tsv" for chosen in plan.values() for f in chosen):
            options.setdefault("delimiter", "\t")
    return _from_hub(kind, None, plan, split, options, what=listing([f for c in plan.values() for f in c], 3))


def _joined(tables: list[pa.Table], files: list[str]) -> pa.Table:
    """The rows of all files of one split, in the order of the files."""
    import pyarrow as pa

    if len(tables) == 1:
        return tables[0]
    for table, file in zip(tables, files, strict=True):
        if set(table.column_names) != set(tables[0].column_names):
            raise DataError(
                f"{os.path.abspath(file)} has the columns {listing(table.column_names)}, but "
                f"{os.path.basename(files[0])} has {listing(tables[0].column_names)}; "
                "files of one split need the same columns."
            )
    ordered = [table.select(tables[0].column_names) for table in tables]
    try:
        return pa.concat_tables(ordered, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(
            f"the files {listing(map(os.path.basename, files), 4)} have columns of different types ({_one_line(error)}); "
            "make them the same."
        ) from None


# ---- one file ----


def _table(file: str, kind: str, options: Mapping[str, Any]) -> pa.Table:
    """One file as an Arrow table with at least one row and plain column types."""
    import pyarrow as pa

    full = os.path.abspath(file)
    read: dict[str, Callable[..., pa.Table]] = {
        "csv": _csv, "json": _json, "parquet": _parquet, "text": _text}  # fmt: skip
    try:
        table = read[kind](file, **options)
    except UnpadError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(
            f"{full} is not {error.encoding} text ({_one_line(error)}); pass the right encoding=, or save it as UTF-8."
        ) from None
    except PermissionError:
        raise DataError(f"{full} may not be read (permission denied); allow it, or copy the file.") from None
    except (pa.ArrowException, OSError, EOFError, ValueError) as error:
        raise DataError(
            f"{full} cannot be read as {kind} ({_one_line(error)}); the file is damaged, cut short or of another format."
        ) from None
    if table.num_columns == 0 or table.num_rows == 0:
        raise DataError(f"{full} has no rows; a data file needs at least one.")
    return _plain(table)


def _plain(table: pa.Table) -> pa.Table:
    """The same rows with plain strings, where pandas wrote categories or 64-bit offsets; cheap, no column else moves."""
    import pyarrow as pa

    if b"huggingface" in (table.schema.metadata or {}):
        return table  # the writer declared its types
    for i, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_large_string(kind) and table.column(i).nbytes < 1 << 31:
            kind = pa.string()
        if kind != field.type:
            table = table.set_column(i, field.name, table.column(i).cast(kind))
    return table


def _bytes(file: str, encoding: str | None = None) -> bytes:
    """The content without compression, as UTF-8 and without a byte order mark when an encoding is given."""
    import pyarrow as pa

    with pa.input_stream(file, compression="detect") as stream:
        raw = stream.read()
    try:
        return raw.decode(encoding).encode() if encoding else raw
    except LookupError:
        raise ArgumentError(
            f"encoding={encoding!r} is not known; write for instance 'utf-8' or 'latin-1'."
        ) from None


def _csv(
    file: str,
    delimiter: str | None = None,
    sep: str | None = None,
    column_names: Any = None,
    encoding: str | None = None,
    types: Mapping[str, pa.DataType] | None = None,
) -> pa.Table:
    """Numbers become numbers; everything else stays the text that it is, empty cells of text columns included.

    `types` fixes the types of some columns; the others are what all their values allow.
    """
    import pyarrow as pa
    import pyarrow.csv as pc

    full = os.path.abspath(file)
    raw = _bytes(file, encoding)
    if not raw.strip():
        raise DataError(f"{full} is empty (blank lines only); a data file needs at least one row.")
    delimiter = delimiter or sep or ("\t" if _ending(file) == ".tsv" else ",")
    ragged: list[pc.InvalidRow] = []

    def refuse(row: pc.InvalidRow) -> str:
        ragged.append(row)
        return "error"

    try:
        table = pc.read_csv(
            io.BytesIO(raw),
            read_options=pc.ReadOptions(
                use_threads=False,  # only then does a bad row know its number
                column_names=list(column_names) if column_names else None,
                block_size=max(1 << 20, min(len(raw) + 1, 1 << 30)),
            ),
            parse_options=pc.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=refuse, ignore_empty_lines=True
            ),
            convert_options=pc.ConvertOptions(
                null_values=[""], strings_can_be_null=False, column_types=dict(types or {}), true_values=["true", "True", "TRUE"],
                false_values=["false", "False", "FALSE"],
            ),
        )  # fmt: skip

        twice = [n for n in table.column_names if table.column_names.count(n) > 1]
        if twice:
            raise DataError(
                f"{full} has the column {twice[0]!r} twice in its first line; rename one of them."
            )
        return table
    except pa.ArrowInvalid as error:
        if ragged:
            row = ragged[0]
            line = f"row {row.number} (the header is row 1)" if row.number is not None else "a row"
            raise DataError(
                f"{full}, {line} has {row.actual_columns} columns instead of {row.expected_columns}: {_short(row.text)}; "
                f"put quotes around cells that contain {delimiter!r}, or fix the row."
            ) from None
        if "UTF8" in str(error) or "UTF-8" in str(error):
            raise _not_utf8(full, raw) from None
        raise


def _common_types(tables: Mapping[str, pa.Table]) -> dict[str, pa.DataType]:
    """One type per column for all CSV files together, so that splits agree: a number, or else text.

    A column without any value takes the type that it has elsewhere; dates and times stay text.
    """
    import pyarrow as pa

    seen: dict[str, set[pa.DataType]] = {}
    for table in tables.values():
        for field in table.schema:
            seen.setdefault(field.name, set()).add(field.type)
    common = {}
    for name, kinds in seen.items():
        kinds.discard(pa.null())
        if kinds and kinds <= {pa.int64(), pa.float64()}:
            common[name] = pa.float64() if len(kinds) > 1 else kinds.pop()
        else:
            common[name] = pa.bool_() if kinds == {pa.bool_()} else pa.string()
    return common


def _not_utf8(full: str, raw: bytes) -> DataError:
    try:
        raw.decode("utf-8")
        where = ""
    except UnicodeDecodeError as error:
        where = f" (line {raw[: error.start].count(10) + 1}, byte {raw[error.start]:#04x})"
    return DataError(
        f"{full} is not UTF-8 text{where}; save it as UTF-8, or pass encoding='latin-1' or what it is."
    )


def _json(file: str, field: str | None = None, encoding: str | None = None) -> pa.Table:
    """JSON Lines, a list of objects, or an object of columns; strings that look like dates stay strings."""
    import pyarrow as pa

    full = os.path.abspath(file)
    raw = _bytes(file, encoding)
    try:
        raw.decode("utf-8")  # pyarrow's JSON reader would let broken text pass
    except UnicodeDecodeError:
        raise _not_utf8(full, raw) from None
    head = raw.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head:
        raise DataError(f"{full} is empty (blank lines only); a data file needs at least one row.")
    first_line = head.split(b"\n", 1)[0]
    several = _is_json(first_line) and head.strip() != first_line.strip()
    if field is None and (_ending(file) != ".json" or several):
        return _json_lines(full, raw)
    try:
        data = json.loads(head.decode("utf-8"))
    except json.JSONDecodeError as error:
        before = raw[: len(raw) - len(head)].count(b"\n")
        raise DataError(
            f"{full} is not valid JSON: line {error.lineno + before}, column {error.colno}: {error.msg}; "
            "fix that place (JSON Lines needs one whole object per line)."
        ) from None
    if field is not None:
        if not isinstance(data, dict) or field not in data:
            keys = listing(data) if isinstance(data, dict) else "a list, without fields"
            raise DataError(f"{full} has no field {field!r}; it holds: {keys}.")
        data = data[field]
    elif isinstance(data, dict) and len(data) == 1 and _is_rows(next(iter(data.values()))):
        field = next(iter(data))
        say_once(f"rows of {full} are taken from its only field {field!r}")
        data = data[field]
    if isinstance(data, dict):
        columns = all(isinstance(value, list) for value in data.values())
        if not columns or len({len(value) for value in data.values()}) > 1:
            if field is None and first_line.strip() == head.strip():  # one line: a single row of JSON Lines
                data = [data]
            else:
                raise DataError(
                    f"{full} holds one object with the fields {listing(data)}; "
                    "expected a list of objects, one object per line, or lists of equal length. Pass field='...' if rows are inside."
                )
        else:
            return _from_columns(full, data)
    if not isinstance(data, list):
        raise DataError(
            f"{full} holds a single {type(data).__name__}; expected a list of objects or one per line."
        )
    bad = next((i for i, row in enumerate(data) if not isinstance(row, dict)), None)
    if bad is not None:
        raise DataError(
            f"{full}, row {bad}: {_short(data[bad])} is not an object; every row needs names for its values."
        )
    names = dict.fromkeys(key for row in data for key in row)
    if not names:
        return pa.table({})
    return _from_columns(full, {name: [row.get(name) for row in data] for name in names})


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(row, dict) for row in value)


def _from_columns(full: str, columns: Mapping[str, list[Any]]) -> pa.Table:
    import pyarrow as pa

    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values)
        except (pa.ArrowException, TypeError, OverflowError) as error:
            kinds = {type(v).__name__: i for i, v in reversed(list(enumerate(values))) if v is not None}
            where = ", ".join(
                f"{kind} in row {row}" for kind, row in sorted(kinds.items(), key=lambda k: k[1])
            )
            reason = where if len(kinds) > 1 else _one_line(error)
            raise DataError(
                f"{full}: column {name!r} has values of different types ({reason}); make them one."
            ) from None
    return pa.table(arrays)


def _json_lines(full: str, raw: bytes) -> pa.Table:
    import pyarrow as pa
    import pyarrow.json as pj

    def parse(schema: pa.Schema | None) -> pa.Table:
        return pj.read_json(
            io.BytesIO(raw.removeprefix(b"\xef\xbb\xbf")),
            read_options=pj.ReadOptions(
                use_threads=True, block_size=max(16 << 20, min(len(raw), 1 << 30) // 8)
            ),
            parse_options=pj.ParseOptions(explicit_schema=schema, newlines_in_values=False),
        )

    try:
        table = parse(None)
        untimed = pa.schema([f.with_type(_untimed(f.type)) for f in table.schema])
        return table if untimed == table.schema else parse(untimed)
    except pa.ArrowInvalid as failure:
        rows = []  # slow and exact: find the line
        for number, line in enumerate(raw.split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                rows.append(json.loads(line.decode("utf-8-sig")))
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{full}, line {number} is not valid JSON: {error.msg} at column {error.colno}: "
                    f"{_short(line.decode('utf-8', 'replace'))}; fix or remove that line."
                ) from None
            if not isinstance(rows[-1], dict):
                raise DataError(
                    f"{full}, line {number} is {_short(rows[-1])}, not an object with named values."
                ) from None
        names = dict.fromkeys(key for row in rows for key in row)
        try:
            return _from_columns(full, {name: [row.get(name) for row in rows] for name in names})
        except DataError:
            raise
        except Exception:
            raise failure from None


def _untimed(kind: pa.DataType) -> pa.DataType:
    """The same type with strings in place of the dates that the JSON reader guesses."""
    import pyarrow as pa

    if pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_untimed(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_untimed(field.type)) for field in kind])
    return kind


def _parquet(file: str, columns: list[str] | None = None) -> pa.Table:
    import pyarrow.parquet as pq

    source = io.BytesIO(_bytes(file)) if file.lower().endswith(COMPRESSIONS) else file
    with pq.ParquetFile(source) as parquet:
        names = parquet.schema_arrow.names
        unknown = next((c for c in columns or [] if c not in names), None)
        if unknown is not None:
            full = os.path.abspath(file)
            raise DataError(
                f"{full} has no column {unknown!r}{nearest(unknown, names)}; it has: {listing(names)}."
            )
        return parquet.read(columns=columns)


def _text(file: str, encoding: str | None = None) -> pa.Table:
    """One row per line in the column `text`; empty lines are kept as empty texts."""
    import pyarrow as pa

    raw = _bytes(file, encoding)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _not_utf8(os.path.abspath(file), raw) from None
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if not text.strip():
        raise DataError(
            f"{os.path.abspath(file)} is empty (blank lines only); a data file needs at least one row."
        )
    return pa.table({"text": pa.array(lines, pa.string())})


# ---- the Hub ----


def _from_hub(
    path: str, name: str | None, data_files: Any, split: Any, kwargs: dict[str, Any], what: str | None = None
) -> Loaded:
    """`datasets.load_dataset`, with its failures told in one line."""
    import datasets

    try:
        return datasets.load_dataset(path, name, data_files=data_files, split=split, **kwargs)
    except UnpadError:
        raise
    except Exception as error:
        raise _hub_error(error, path, name, split, what) from error


def _hub_error(error: Exception, path: str, name: str | None, split: Any, what: str | None) -> UnpadError:
    text = _one_line(error)
    if what is not None:
        cause = error.__cause__ or error
        kind = ArgumentError if isinstance(error, TypeError) or "unexpected keyword" in text else DataError
        return kind(f"{what} cannot be read as {path} ({_one_line(cause)}); check the file and the options.")
    title = f"{path}/{name}" if name else path
    unknown = re.search(r'Unknown split "([^"]*)"\. Should be one of (.*?)\.?$', text)
    if unknown:
        return DataError(f"{title!r} has no split {unknown.group(1)!r}; the data has: {unknown.group(2)}.")
    chain: list[BaseException] = [error]
    while (chain[-1].__cause__ or chain[-1].__context__) is not None and len(chain) < 10:
        chain.append(chain[-1].__cause__ or chain[-1].__context__)  # type: ignore[arg-type]
    kinds = {kind.__name__ for link in chain for kind in type(link).__mro__}
    offline = next((v for v in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE") if _is_on(os.environ.get(v))), None)
    unreachable = {
        "ConnectionError",
        "ConnectError",
        "OfflineModeIsEnabled",
        "LocalEntryNotFoundError",
        "TimeoutException",
    }
    if offline or kinds & unreachable:
        why = f"{offline} is set" if offline else "the network is down or the Hub does not answer"
        near = nearest(path, os.listdir("."))
        return DataError(
            f"{title!r} was not found in the cache, and {why}; {os.path.abspath(path)} does not exist either{near}; "
            f"{'unset it' if offline else 'connect once'} to download, or pass a local path, or 'helpdesk'."
        )
    if "DatasetNotFoundError" in kinds:
        return DataError(
            f"{title!r} is no file or folder here and no data set on the Hub that you can see; check the spelling, "
            "or sign in with `hf auth login` if it is private."
        )
    if isinstance(error, TypeError):
        return ArgumentError(f"{title!r} cannot be loaded with these options ({text}); check their names.")
    return DataError(
        f"{title!r} cannot be loaded from the Hub ({text}); check the id, the configuration and the files."
    )


def _is_on(value: str | None) -> bool:
    return (value or "").upper() in ("1", "ON", "YES", "TRUE")


# ---- words for messages ----


def _require_column(dataset: Any, column: str, split: str | None) -> None:
    names = list(dataset.column_names)
    if column not in names:
        raise DataError(
            f"there is no column {column!r}{_of(split)}{nearest(column, names)}; the columns are: {listing(names)}."
        )


def _of(split: str | None) -> str:
    return f" of {split!r}" if split else ""


def _one_line(error: BaseException, most: int = 200) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else text[: most - 3] + "..."


def _short(value: Any, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."
