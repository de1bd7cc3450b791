"""Local files as Arrow tables: csv, json, parquet and text, compressed or not, read by pyarrow straight into memory.

Text stays text: an empty cell of a text column is `""`, and `NA`, `null` or a date are kept as they stand. Whatever is
wrong with a file is told in one line with its full path and the place in it.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.json as pj
import pyarrow.parquet as pq

from unpad.data._find import ALLOWED, COMPRESSIONS, FORMATS, ending, one_line
from unpad.errors import ArgumentError, DataError, UnpadError, listing, nearest
from unpad.notices import say_once


def formats_of(files: Iterable[str], builder: str | None) -> dict[str, str]:
    """File -> format, which `builder` or else the ending says; raises DataError for a strange ending or no content."""
    kinds = {}
    for file in files:
        if builder is None and not ending(file):
            raise DataError(f"{os.path.abspath(file)} has an ending that is not known; allowed are {ALLOWED}.")
        if os.path.getsize(file) == 0:
            raise _nothing_in(file, "is empty (0 bytes)")
        kinds[file] = builder or FORMATS[ending(file)]
    return kinds


def read_tables(kinds: Mapping[str, str], options: Mapping[str, Any]) -> dict[str, pa.Table]:
    """File -> its table, with at least one row and plain column types, which are the same in all csv files."""
    tables = {file: _table(file, kind, options) for file, kind in kinds.items()}
    sheets = {file: table for file, table in tables.items() if kinds[file] == "csv"}
    types = _common_types(sheets)
    for file, table in sheets.items():
        other = {f.name: types[f.name] for f in table.schema if f.type != types[f.name]}
        if other:  # a second pass is rare and cheaper than reading every cell as text first
            tables[file] = _table(file, "csv", {**options, "types": other})
    return tables


def joined(tables: list[pa.Table], files: list[str]) -> pa.Table:
    """The rows of all files of one split, in the order of the files."""

    if len(tables) == 1:
        return tables[0]
    for table, file in zip(tables, files, strict=True):
        if set(table.column_names) != set(tables[0].column_names):
            first = f"{os.path.basename(files[0])} has {listing(tables[0].column_names)}"
            here = f"{os.path.abspath(file)} has the columns {listing(table.column_names)}"
            raise DataError(f"{here}, but {first}; files of one split need the same columns.")
    ordered = [table.select(tables[0].column_names) for table in tables]
    try:
        return pa.concat_tables(ordered, promote_options="permissive")
    except pa.ArrowException as error:
        wrong = f"the files {listing(map(os.path.basename, files), 4)} have columns of different types"
        raise DataError(f"{wrong} ({one_line(error)}); make them the same.") from None


def _table(file: str, kind: str, options: Mapping[str, Any]) -> pa.Table:
    """One file as an Arrow table with at least one row and plain column types."""

    full = os.path.abspath(file)
    read: Any = {"csv": _csv, "json": _json, "parquet": _parquet, "text": _text}[kind]
    try:
        table = read(file, **options)
    except UnpadError:
        raise
    except UnicodeDecodeError as error:
        how = "pass the right encoding=, or save it as UTF-8"
        raise DataError(f"{full} is not {error.encoding} text ({one_line(error)}); {how}.") from None
    except PermissionError:
        raise DataError(f"{full} may not be read (permission denied); allow it, or copy the file.") from None
    except (pa.ArrowException, OSError, EOFError, ValueError) as error:
        why = "the file is damaged, cut short or of another format"
        raise DataError(f"{full} cannot be read as {kind} ({one_line(error)}); {why}.") from None
    if table.num_columns == 0 or table.num_rows == 0:
        raise _nothing_in(file, "has no rows")
    return plain(table)


def _nothing_in(file: str, what: str) -> DataError:
    return DataError(f"{os.path.abspath(file)} {what}; a data file needs at least one row.")


def plain(table: pa.Table) -> pa.Table:
    """The same rows with plain strings, where pandas wrote categories or 64-bit offsets; cheap, no column else moves."""

    if b"huggingface" in (table.schema.metadata or {}):
        return table  # the writer declared its types
    for i, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_large_string(kind) and table.column(i).nbytes < 1 << 31:
            kind = pa.string()
        if kind != field.type:
            table = table.set_column(i, field.name, table.column(i).cast(kind))
    return table


def _unpacked(file: str) -> bytes:

    with pa.input_stream(file, compression="detect") as stream:
        return stream.read()


def _utf8(file: str, encoding: str | None) -> bytes:
    """The content without compression and byte order mark; raises DataError when it is blank or not UTF-8."""

    raw = _unpacked(file)
    try:
        raw = raw.decode(encoding).encode() if encoding else raw
    except LookupError:
        raise ArgumentError(f"encoding={encoding!r} is not known; write for instance 'utf-8' or 'latin-1'.") from None
    raw = raw.removeprefix(codecs.BOM_UTF8)
    if not raw or raw.isspace():
        raise _nothing_in(file, "is empty (blank lines only)")
    try:  # pyarrow's JSON reader would let broken text pass; this looks at the bytes without a copy
        ends = pa.py_buffer(struct.pack("=2q", 0, len(raw)))
        pa.LargeStringArray.from_buffers(1, ends, pa.py_buffer(raw)).validate(full=True)
    except pa.ArrowInvalid:
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            where = f"line {line}, byte {raw[error.start]:#04x}"
            how = "save it as UTF-8, or pass encoding='latin-1' or what it is"
            raise DataError(f"{os.path.abspath(file)} is not UTF-8 text ({where}); {how}.") from None
    return raw


def _csv(
    file: str, delimiter: str | None = None, sep: str | None = None, column_names: Any = None, encoding: str | None = None,
    types: Mapping[str, pa.DataType] | None = None,
) -> pa.Table:  # fmt: skip
    """Numbers become numbers; everything else stays the text that it is, empty cells of text columns included.

    `types` fixes the types of some columns; the others are what all their values allow.
    """

    full = os.path.abspath(file)
    raw = _utf8(file, encoding)
    delimiter = delimiter or sep or ("\t" if ending(file) == ".tsv" else ",")
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
                null_values=[""],
                strings_can_be_null=False,
                column_types=dict(types or {}),
                true_values=["true", "True", "TRUE"],
                false_values=["false", "False", "FALSE"],
            ),
        )
    except pa.ArrowInvalid:
        if ragged:
            row = ragged[0]
            line = f"row {row.number} (the header is row 1)" if row.number is not None else "a row"
            counts = f"has {row.actual_columns} columns instead of {row.expected_columns}: {row.text!r:.60}"
            how = f"put quotes around cells that contain {delimiter!r}, or fix the row"
            raise DataError(f"{full}, {line} {counts}; {how}.") from None
        raise
    twice = [n for n in table.column_names if table.column_names.count(n) > 1]
    if twice:
        raise DataError(f"{full} has the column {twice[0]!r} twice in its first line; rename one of them.")
    return table


def _common_types(tables: Mapping[str, pa.Table]) -> dict[str, pa.DataType]:
    """One type per column for all CSV files together, so that splits agree: a number, or else text.

    A column without any value takes the type that it has elsewhere; dates and times stay text.
    """

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


def _json(file: str, field: str | None = None, encoding: str | None = None) -> pa.Table:
    """JSON Lines, a list of objects, or an object of columns; strings that look like dates stay strings."""
    full = os.path.abspath(file)
    raw = _utf8(file, encoding)
    whole = raw.strip()
    first_line = whole.split(b"\n", 1)[0].rstrip()
    one_line_only = first_line == whole
    if field is None and (ending(file) != ".json" or (not one_line_only and _is_object(first_line))):
        return _json_lines(full, raw)
    try:
        data = json.loads(raw.decode())
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise DataError(f"{full} is not valid JSON: {where}; mend it (JSON Lines: an object per line).") from None
    if field is not None:
        if not isinstance(data, dict) or field not in data:
            keys = listing(data) if isinstance(data, dict) else "a list, without fields"
            raise DataError(f"{full} has no field {field!r}; it holds: {keys}.")
        data = data[field]
    elif isinstance(data, dict) and len(data) == 1 and is_rows(next(iter(data.values()))):
        only = next(iter(data))
        say_once(f"rows of {full} are taken from its only field {only!r}")
        data = data[only]
    elif isinstance(data, dict) and is_rows(data.get("data")):
        data = data["data"] if all("paragraphs" in row for row in data["data"]) else data
    if is_rows(data) and "paragraphs" in data[0]:
        data = _questions(full, data)
    if isinstance(data, dict):
        lengths = {len(value) if isinstance(value, list) else None for value in data.values()}
        if len(lengths) <= 1 and None not in lengths:
            return _from_columns(full, data)
        if field is not None or not one_line_only:
            expected = "expected a list of objects, one object per line, or lists of equal length"
            found = f"{full} holds one object with the fields {listing(data)}"
            raise DataError(f"{found}; {expected}. Pass field='...' if rows are inside.")
        data = [data]  # a single row of JSON Lines
    if not isinstance(data, list):
        raise DataError(f"{full} holds a single {type(data).__name__}; expected a list of objects or one per line.")
    bad = next((i for i, row in enumerate(data) if not isinstance(row, dict)), None)
    if bad is not None:
        raise DataError(f"{full}, row {bad}: {data[bad]!r:.60} is not an object; every row needs names for its values.")
    return _from_columns(full, columns_of(data))


def _questions(full: str, articles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The nested articles, paragraphs and questions of SQuAD as one row per question."""
    try:
        return [
            {"id": asked.get("id"), "title": article.get("title"), "context": paragraph["context"], "question": asked["question"],
             "answers": {name: [answer[name] for answer in asked.get("answers", [])] for name in ("text", "answer_start")}}
            for article in articles for paragraph in article["paragraphs"] for asked in paragraph["qas"]
        ]  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        needed = "articles hold paragraphs, these a context and qas, and these an id, a question and answers of text and answer_start"
        raise DataError(f"{full} looks like SQuAD but is built otherwise ({one_line(error)}); its {needed}.") from None


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def is_rows(value: Any) -> bool:
    """A list of at least one dictionary and nothing else."""
    return isinstance(value, list) and len(value) > 0 and all(isinstance(row, dict) for row in value)


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows as lists of values by name, None where a row has none."""
    names = dict.fromkeys(key for row in rows for key in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _from_columns(full: str, columns: Mapping[str, list[Any]]) -> pa.Table:

    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values)
        except (pa.ArrowException, TypeError, OverflowError) as error:
            first: dict[str, int] = {}  # the first row of each type
            for row, value in enumerate(values):
                if value is not None:
                    first.setdefault(type(value).__name__, row)
            where = ", ".join(f"{kind} in row {row}" for kind, row in first.items())
            why = where if len(first) > 1 else one_line(error)
            raise DataError(f"{full}: column {name!r} has values of different types ({why}); make them one.") from None
    return pa.table(arrays)


def _json_lines(full: str, raw: bytes) -> pa.Table:

    def parse(schema: pa.Schema | None) -> pa.Table:
        return pj.read_json(
            io.BytesIO(raw),
            read_options=pj.ReadOptions(use_threads=True, block_size=max(16 << 20, min(len(raw), 1 << 30) // 8)),
            parse_options=pj.ParseOptions(explicit_schema=schema, newlines_in_values=False),
        )

    if raw.lstrip().startswith(b"{"):  # at a leading `null` the reader of pyarrow 26 crashes the process
        try:
            table = parse(None)
            untimed = pa.schema([f.with_type(_untimed(f.type)) for f in table.schema])
            return table if untimed == table.schema else parse(untimed)
        except pa.ArrowInvalid:
            pass
    return _line_by_line(full, raw)


def _line_by_line(full: str, raw: bytes) -> pa.Table:
    """JSON Lines, slowly and exactly, so that an error can name its line."""
    rows = []
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line.decode("utf-8-sig")))
        except json.JSONDecodeError as error:
            wrong = f"{error.msg} at column {error.colno}: {line.decode()!r:.60}"
            raise DataError(f"{full}, line {number} is not valid JSON: {wrong}; fix or remove that line.") from None
        if not isinstance(rows[-1], dict):
            raise DataError(f"{full}, line {number} is {rows[-1]!r:.60}, not an object with named values.")
    return _from_columns(full, columns_of(rows))


def _untimed(kind: pa.DataType) -> pa.DataType:
    """The same type with strings in place of the dates that the JSON reader guesses."""

    if pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_untimed(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_untimed(field.type)) for field in kind])
    return kind


def _parquet(file: str, columns: list[str] | None = None) -> pa.Table:

    source = io.BytesIO(_unpacked(file)) if file.lower().endswith(COMPRESSIONS) else file
    with pq.ParquetFile(source) as parquet:
        names = parquet.schema_arrow.names
        for column in columns or []:
            if column not in names:
                wrong = f"{os.path.abspath(file)} has no column {column!r}{nearest(column, names)}"
                raise DataError(f"{wrong}; it has: {listing(names)}.")
        return parquet.read(columns=columns)


def _text(file: str, encoding: str | None = None) -> pa.Table:
    """One row per line in the column `text`; empty lines are kept as empty texts."""

    lines = _utf8(file, encoding).decode().replace("\r\n", "\n").removesuffix("\n").split("\n")
    return pa.table({"text": pa.array(lines, pa.string())})
