"""`load_dataset`: every source gives the rows that were written, and every mistake gets one plain line."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, List
from hypothesis import given, settings
from hypothesis import strategies as st

from unpad.data import load
from unpad.data.load import class_names, encode_labels, load_dataset
from unpad.errors import ArgumentError, DataError, UnpadError

ROWS = [{"text": "first, with a comma", "label": 1}, {"text": "", "label": 0}, {"text": 'a "quote"', "label": 1}]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder, and no way to the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def refused(match: str, *args, kind: type[UnpadError] = DataError, call=load_dataset, **kwargs) -> str:
    with pytest.raises(kind, match=match) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".") and len(text) < 700
    return text


def write(folder, name: str, content: str | bytes) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def written(folder, name: str, rows=ROWS) -> str:
    """The rows in a file of the format (and compression) that its name says."""
    frame = pd.DataFrame(rows)
    stem, _, packed = name.partition(".")[2].partition(".")
    if stem == "parquet":
        frame.to_parquet(folder / name)
        return str(folder / name)
    text = {
        "csv": lambda: frame.to_csv(index=False),
        "tsv": lambda: frame.to_csv(index=False, sep="\t"),
        "json": lambda: json.dumps(rows, indent=1),
        "jsonl": lambda: "".join(json.dumps(row) + "\n" for row in rows),
    }[stem]()
    with pa.output_stream(folder / name, compression={"gz": "gzip", "zst": "zstd", "bz2": "bz2"}.get(packed)) as out:
        out.write(text.encode())
    return str(folder / name)


# ---- what comes back ----


@pytest.mark.parametrize(
    "name",
    ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.parquet", "a.csv.gz", "a.tsv.zst", "a.jsonl.zst", "a.jsonl.gz", "a.json.bz2"],
)  # fmt: skip
def test_a_file_of_each_format_gives_the_rows_that_were_written(here, name):
    loaded = load_dataset(written(here, name))
    assert isinstance(loaded, DatasetDict) and list(loaded) == ["train"]
    assert loaded["train"].to_list() == ROWS
    assert str(loaded["train"].split) == "train"
    assert os.listdir(here) == [name], "nothing else is written to the current folder"


def test_local_files_leave_no_cache_behind(here, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", here / "cache")
    load_dataset(written(here, "a.csv"))
    assert not (here / "cache").exists()


def test_empty_text_and_words_for_nothing_stay_text(here):
    cells = ["", "NA", "null", "None", "NaN", "nan", "#N/A", "plain"]
    table = "text,n\n" + "".join(f'"{cell}",{i}\n' for i, cell in enumerate(cells))
    assert load_dataset(write(here, "a.csv", table))["train"]["text"][:] == cells
    table = "text\tn\n" + "".join(f"{cell}\t{i}\n" for i, cell in enumerate(cells))
    assert load_dataset(write(here, "a.tsv", table))["train"]["text"][:] == cells
    assert load_dataset("csv", data_files="a.csv", quotechar='"')["train"]["text"][:] == cells


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r")), min_size=1, max_size=6))
def test_any_text_survives_a_csv_file(texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    texts = [*texts, "a word"]  # with numbers alone the column would be one of numbers
    path.write_text("text,n\n" + "".join('"{}",1\n'.format(t.replace('"', '""')) for t in texts), "utf-8", newline="")
    assert load_dataset(path)["train"]["text"][:] == texts


def test_numbers_are_numbers_and_a_missing_number_is_none(here):
    rows = load_dataset(write(here, "a.csv", "text,i,f\na,1,0.5\nb,,\n"))["train"].to_list()
    assert rows == [{"text": "a", "i": 1, "f": 0.5}, {"text": "b", "i": None, "f": None}]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.parquet"])
def test_dates_stay_the_text_that_was_written(here, name):
    rows = [{"text": "a", "at": "2024-01-02"}, {"text": "b", "at": "2024-01-03T10:00:00Z"}]
    assert load_dataset(written(here, name, rows))["train"].to_list() == rows
    rows = [{"text": "a", "at": "2024-01-02"}, {"text": "b", "at": "2024-01-03"}]
    assert load_dataset(written(here, name, rows))["train"].to_list() == rows


def test_a_csv_column_has_one_type_in_all_splits(here):
    write(here, "train.csv", "text,zip,label,score\na,123,1,1\n")
    write(here, "validation.csv", "text,zip,label,score\n7,x9,,0.5\n")
    loaded = load_dataset(here)
    assert loaded["train"].features == loaded["validation"].features
    assert loaded["train"][0] == {"text": "a", "zip": "123", "label": 1, "score": 1.0}
    assert loaded["validation"][0] == {"text": "7", "zip": "x9", "label": None, "score": 0.5}


def test_a_text_file_gives_one_row_per_line_and_keeps_empty_lines(here):
    assert load_dataset(write(here, "a.txt", "one\r\n\ntwo\u2028still two\n"))["train"]["text"][:] == [
        "one",
        "",
        "two\u2028still two",
    ]


def test_byte_order_marks_and_other_encodings_are_read(here):
    bom = b"\xef\xbb\xbf"
    assert load_dataset(write(here, "a.csv", bom + b"text\nx\n"))["train"].to_list() == [{"text": "x"}]
    assert load_dataset(write(here, "a.jsonl", bom + b'{"text": "x"}\n'))["train"].to_list() == [{"text": "x"}]
    assert load_dataset(write(here, "a.txt", bom + b"x\n"))["train"].to_list() == [{"text": "x"}]
    latin = write(here, "l.csv", "text\ncafé\n".encode("latin-1"))
    assert load_dataset(latin, encoding="latin-1")["train"].to_list() == [{"text": "café"}]


def test_json_shapes_are_understood(here):
    columns = write(here, "columns.json", '{"a": [1, 2], "b": ["x", "y"]}')
    assert load_dataset(columns)["train"].to_list() == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    lists = write(here, "one_row.jsonl", '{"tokens": ["x", "y"], "tags": [1, 2]}\n')
    assert load_dataset(lists)["train"].to_list() == [{"tokens": ["x", "y"], "tags": [1, 2]}]
    inside = write(here, "inside.json", '{"version": 1, "data": [{"a": 1}, {"a": 2, "b": null}]}')
    assert load_dataset(inside, field="data")["train"]["a"][:] == [1, 2]
    late = write(here, "late.json", '[{"a": 1}, {"a": 2, "late": "x"}]')
    assert load_dataset(late)["train"].to_list() == [{"a": 1, "late": None}, {"a": 2, "late": "x"}]


def test_a_folder_is_read_by_the_names_of_its_files(here):
    write(here, "f/train-00000-of-00002.jsonl", '{"a": 1}\n')
    write(here, "f/train-00001-of-00002.jsonl", '{"a": 2}\n')
    write(here, "f/dev.csv", "a\n3\n")
    write(here, "f/sub/test.tsv", "a\n4\n")
    write(here, "f/README.txt", "about\n")
    loaded = load_dataset("f")
    assert {split: part["a"][:] for split, part in loaded.items()} == {"train": [1, 2], "validation": [3], "test": [4]}
    for name in ("valid", "val", "validation"):
        write(here, f"{name}/{name}.csv", "a\n3\n")
        write(here, f"{name}/corpus_train.csv", "a\n1\n")
        assert list(load_dataset(here / name)) == ["train", "validation"]


def test_a_folder_with_configurations_gives_the_named_one(here):
    write(here, "f/en.csv", "a\n1\n")
    write(here, "f/es.csv", "a\n2\n")
    write(here, "f/pl/train.csv", "a\n3\n")
    assert load_dataset("f", "es", split="train")["a"][:] == [2]
    assert load_dataset("f", "pl", split="train")["a"][:] == [3]


def test_a_saved_data_set_comes_back_with_its_features(here):
    whole = load_dataset("helpdesk", "pairs")
    whole.save_to_disk("saved")
    assert load_dataset("saved")["test"].features == whole["test"].features
    whole["test"].save_to_disk("one")
    assert load_dataset("one", split="test")[0] == whole["test"][0]


def test_label_names_survive_a_parquet_file(here):
    load_dataset("helpdesk", split="test").to_parquet("test.parquet")
    assert (
        class_names(load_dataset("test.parquet"), "topic") == load_dataset("helpdesk")["test"].features["topic"].names
    )


def test_data_in_memory_gives_the_same_rows():
    frame = pd.DataFrame(ROWS)
    columns = {"text": [row["text"] for row in ROWS], "label": [row["label"] for row in ROWS]}
    for data in (frame, columns, ROWS, Dataset.from_list(ROWS)):
        assert load_dataset(data)["train"].to_list() == ROWS
        splits = load_dataset({"train": data, "test": data})
        assert list(splits) == ["train", "test"] and splits["test"].to_list() == ROWS
    shuffled = frame.iloc[[2, 0]]
    assert load_dataset(shuffled, split="train").column_names == ["text", "label"], "the index is no column"
    answers = {"id": [1], "answers": [{"text": ["x"]}]}
    assert load_dataset(answers, split="train").to_list() == [{"id": 1, "answers": {"text": ["x"]}}]


def test_data_files_work_as_in_the_datasets_library(here):
    written(here, "a.csv")
    written(here, "b.csv", [{"text": "b", "label": 5}])
    loaded = load_dataset("csv", data_files={"train": "a.csv", "test": ["b.csv"]})
    assert (loaded["train"].to_list(), loaded["test"].to_list()) == (ROWS, [{"text": "b", "label": 5}])
    assert len(load_dataset("csv", data_files="*.csv", split="train")) == 4
    assert len(load_dataset("csv", data_files=["a.csv", "b.csv"])["train"]) == 4
    assert load_dataset(here, data_files={"x": "b.csv"})["x"].to_list() == [{"text": "b", "label": 5}]
    semicolons = write(here, "s.csv", "x;y\n1;2\n")
    assert load_dataset("csv", data_files=semicolons, delimiter=";")["train"].to_list() == [{"x": 1, "y": 2}]
    bare = write(here, "bare.csv", "1,2\n")
    assert load_dataset(bare, column_names=["x", "y"])["train"].to_list() == [{"x": 1, "y": 2}]


def test_helpdesk_has_three_spellings():
    assert load_dataset("helpdesk")["train"].column_names[:3] == ["id", "text", "topic"]
    pairs = load_dataset("helpdesk", "pairs", split="validation").to_list()
    assert load_dataset("helpdesk/pairs", split="validation").to_list() == pairs
    assert load_dataset("helpdesk/pairs", split="validation", seed=3).to_list() != pairs


@pytest.mark.parametrize(
    "split", ["train", "train[:100]", "train[:10%]", "train[-5:]", "train[20%:30%]+test[:3]", "all"]
)
def test_split_slices_as_the_datasets_library_does(here, split):
    load_dataset("helpdesk", "pairs").remove_columns(["sentence1", "sentence2"]).save_to_disk("saved")
    ours = load_dataset("saved", split=split)["idx"][:]
    for name, part in load_dataset("saved").items():
        part.to_json(f"{name}.json")
    import datasets

    files = {name: f"{name}.json" for name in ("train", "validation", "test")}
    theirs = datasets.load_dataset("json", data_files=files, split=split, cache_dir=str(here / "cache"))
    assert ours == theirs["idx"][:]
    assert load_dataset("json", data_files=files, split=[split, "test"])[0]["idx"][:] == ours


def test_real_folders_load(real_data):
    mrpc = load_dataset(real_data / "mrpc")
    assert {split: len(part) for split, part in mrpc.items()} == {"train": 3668, "validation": 408, "test": 1725}


def test_the_module_imports_without_the_datasets_library():
    script = (
        "import sys, unpad.data.load as load; assert not {'datasets', 'pandas', 'pyarrow', 'torch'} & set(sys.modules)"
    )
    script += "; assert load.Dataset.__name__ == 'Dataset' and load.concatenate_datasets and load.DatasetDict"
    path = os.pathsep.join(p for p in sys.path if p)
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": path})


# ---- what is refused, in one line ----


def test_a_missing_file_is_told_with_its_full_path_and_its_neighbours(here):
    write(here, "tickets.csv", "a\n1\n")
    text = refused("did you mean 'tickets.csv'", "ticket.csv")
    assert str(here / "ticket.csv") in text
    assert str(here / "tickets.cvs") in refused("did you mean 'tickets.csv'", "tickets.cvs")
    assert str(here / "no" / "where.csv") in refused("nor does its folder", "no/where.csv")
    refused("did you mean 'tickets.csv'", "csv", data_files="ticketz.csv")
    refused("no file fits the pattern", "csv", data_files="*.tsv")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.parquet", "a.txt"])
def test_an_empty_file_is_refused(here, name):
    refused(r"is empty \(0 bytes\)", write(here, name, ""))
    if name != "a.parquet":
        refused("blank lines only", write(here, name, "\n\n"))


def test_zero_rows_are_refused(here):
    refused("has no rows", write(here, "a.csv", "text,label\n"))
    refused("has no rows", write(here, "a.json", "[]"))
    pd.DataFrame({"text": []}).to_parquet("a.parquet")
    refused("has no rows", "a.parquet")
    for nothing in ([], {}, {"text": []}, pd.DataFrame({"text": []}), {"train": [{"a": 1}], "test": {"a": []}}):
        refused("has no rows", nothing)


@pytest.mark.parametrize("keep", [1, 5, 60, -1, -9])
def test_a_parquet_file_cut_short_is_refused(here, keep):
    whole = (here / written(here, "a.parquet")).read_bytes()
    assert str(here / "cut.parquet") in refused("cannot be read as parquet", write(here, "cut.parquet", whole[:keep]))


def test_damaged_compression_is_refused(here):
    packed = gzip.compress(b"text,label\n" + b"word,1\n" * 1000)
    refused("a.csv.gz cannot be read as csv", write(here, "a.csv.gz", packed[:-12]))
    refused("b.csv.gz cannot be read as csv", write(here, "b.csv.gz", b"text,label\nx,1\n"))


def test_a_ragged_csv_row_is_told_with_its_number(here):
    refused(r"row 4 .*3 columns instead of 2: 'x,y,z'", write(here, "a.csv", "t,l\na,1\nb,2\nx,y,z\nc,3\n"))
    refused(r"row 2 .*1 columns instead of 2: 'x'", write(here, "b.csv", "t,l\nx\n"))
    refused("column 't' twice", write(here, "c.csv", "t,t\na,b\n"))


def test_broken_json_is_told_with_its_line(here):
    refused("a.jsonl, line 3 is not valid JSON", write(here, "a.jsonl", '{"a": 1}\n\n{"a": \n{"a": 2}\n'))
    refused("b.json is not valid JSON: line 3, column", write(here, "b.json", '[\n{"a": 1},\n{"a": }\n]'))
    refused("c.jsonl, line 2 is 7, not an object", write(here, "c.jsonl", '{"a": 1}\n7\n'))
    refused("n.jsonl, line 1 is None, not an object", write(here, "n.jsonl", 'null\n{"a": 1}\n'))
    refused(
        r"'a' has values of different types \(int in row 0, str in row 1\)",
        write(here, "d.jsonl", '{"a": 1}\n{"a": "x"}\n'),
    )
    refused("row 1: 7 is not an object", write(here, "e.json", '[{"a": 1}, 7]'))
    refused("no field 'rows'; it holds: data", write(here, "f.json", '{"data": [{"a": 1}]}'), field="rows")


@pytest.mark.parametrize("name, line", [("a.csv", 3), ("a.txt", 3), ("a.jsonl", 2)])
def test_text_that_is_not_utf8_is_told_with_its_line(here, name, line):
    text = "text,l\nok,1\ncafé,2\n" if name != "a.jsonl" else '{"text": "ok"}\n{"text": "café"}\n'
    refused(rf"not UTF-8 text \(line {line}, byte 0xe9\)", write(here, name, text.encode("latin-1")))


def test_a_ragged_row_that_is_not_utf8_either_is_told_as_such(here):
    refused(r"not UTF-8 text \(line 2, byte 0xe9\)", write(here, "a.csv", "t,l\ncafé,1,2\n".encode("latin-1")))


def test_an_unknown_split_is_refused_with_those_there_are(here):
    for data in ("helpdesk", written(here, "a.csv"), ROWS):
        refused("no split 'tran'.*did you mean 'train'.*the data has: train", data, split="tran[:10]")
    refused("cannot be read", "helpdesk", split="train[:x]")


def test_a_folder_without_data_says_which_endings_count(here):
    write(here, "f/notes.md", "x")
    refused(r"holds no data files.*\.csv, \.tsv.*\.parquet", here / "f")
    write(here, "g/train.csv", "a\n1\n")
    refused("no subfolder or files for the configuration 'de'", here / "g", "de")
    write(here, "g/train.tsv", "a\n1\n")
    refused("different formats for split 'train': train.csv, train.tsv", here / "g")
    refused("has an ending that is not known; allowed are .csv", write(here, "a.xml", "<a/>"))


def test_files_of_one_split_need_the_same_columns(here):
    write(here, "train-1.csv", "a,b\n1,2\n")
    write(here, "train-2.csv", "a,c\n1,2\n")
    refused("train-2.csv has the columns a, c, but train-1.csv has a, b", here)


def test_a_hub_id_without_network_says_why_and_what_to_do(here):
    refused("'glue/mrpc' was not found in the cache, and HF_HUB_OFFLINE is set", "glue", "mrpc")
    refused("pass a local path, or 'helpdesk'", "someone/some-data-set")


def test_hub_ids_and_their_options_go_to_the_datasets_library_unchanged(monkeypatch, here):
    import datasets

    calls = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: calls.append((args, kwargs)))
    load_dataset("glue", "mrpc", split="train", revision="main")
    load_dataset("json", data_files="https://example.org/a.jsonl", split="train", streaming=True)
    assert calls == [
        (("glue", "mrpc"), {"data_files": None, "split": "train", "revision": "main"}),
        (("json", None), {"data_files": "https://example.org/a.jsonl", "split": "train", "streaming": True}),
    ]


def test_other_failures_of_the_hub_are_one_line_too(monkeypatch, here):
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    def fail(error):
        def call(*args, **kwargs):
            raise error

        monkeypatch.setattr(datasets, "load_dataset", call)

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)
    fail(ConnectionError("many\nlines"))
    refused("the network is down or the Hub does not answer", "glue")
    fail(DatasetNotFoundError("Dataset 'x' doesn't exist"))
    refused("no data set on the Hub that you can see", "some/thing")
    fail(ValueError("Unknown split \"dev\". Should be one of ['train', 'test']."))
    refused(r"no split 'dev'; the data has: \['train', 'test'\]", "glue", "mrpc", split="dev")
    fail(TypeError("unexpected keyword argument 'bogus'"))
    refused("bogus", "glue", kind=ArgumentError, bogus=1)


def test_options_that_fit_nothing_are_refused(here):
    path = written(here, "a.csv")
    refused("takes no bogus=", ROWS, kind=ArgumentError, bogus=1)
    refused("takes no name=", path, "config", kind=ArgumentError)
    refused("bogus", path, kind=ArgumentError, bogus=1)
    refused("encoding='klingon' is not known", path, kind=ArgumentError, encoding="klingon")
    refused("takes no data_files=", "helpdesk", kind=ArgumentError, data_files="a.csv")
    refused("no configuration 'pear'.*pairs", "helpdesk/pear")


def test_data_in_memory_that_is_no_table_is_refused():
    refused("different lengths: a 1, b 2", {"a": [1], "b": [1, 2]})
    refused("row 1 of 'train' is 7, not a dict", [{"a": 1}, 7])
    refused("column 'a' of 'train' is 'abc', which is no list", {"a": "abc"})
    refused("does not fit into columns of one type", {"a": [1, "x"]})
    refused("data of type 'int' cannot be loaded", 3)
    refused("has the column 'a' twice", pd.DataFrame([[1, 2]], columns=["a", "a"]))


# ---- labels ----


def test_string_labels_get_the_same_ids_in_all_splits(caplog):
    data = load_dataset({"train": {"y": ["b", "a", "c"], "n": [1, 2, 3]}, "test": {"y": ["c", "b"], "n": [4, 5]}})
    with caplog.at_level("INFO", logger="unpad"):
        encoded = encode_labels(data, "y")
    assert [encoded[s]["y"][:] for s in encoded] == [[1, 0, 2], [2, 1]]
    assert encoded["test"].features["y"] == ClassLabel(names=["a", "b", "c"])
    assert class_names(encoded, "y") == class_names(encoded["test"], "y") == ["a", "b", "c"]
    assert encoded["test"].column_names == ["y", "n"] and encoded["test"]["n"][:] == [4, 5]
    assert caplog.messages == ["labels of 'y' are strings: mapped to 3 ids in sorted order: a, b, c"]
    assert encode_labels(encoded, "y") is encoded and class_names(encoded, "n") is None


def test_string_tags_of_words_are_mapped_too():
    encoded = encode_labels(load_dataset({"t": [["O", "B-X"], [], ["O"]]}, split="train"), "t")
    assert encoded["t"][:] == [[1, 0], [], [1]]
    assert encoded.features["t"] == List(ClassLabel(names=["B-X", "O"]))
    assert class_names(encoded, "t") == ["B-X", "O"]


@settings(max_examples=40, deadline=None)
@given(labels=st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=12), data=st.data())
def test_mapped_labels_read_back_as_the_strings_they_were(labels, data):
    order = data.draw(st.permutations(range(len(labels))))
    dataset = load_dataset({"y": labels}, split="train").select(order)
    encoded = encode_labels(dataset, "y")
    names = class_names(encoded, "y")
    assert names == sorted(set(labels))
    assert [names[i] for i in encoded["y"]] == [labels[i] for i in order]


def test_labels_that_cannot_be_mapped_are_told_with_row_and_split():
    unseen = load_dataset({"train": {"y": ["spam", "ham"]}, "validation": {"y": ["ham", "spma"]}})
    refused("'spma' in row 1 of 'validation'.*did you mean 'spam'.*ham, spam", unseen, "y", call=encode_labels)
    missing = load_dataset({"train": {"y": ["spam", None]}})
    refused("row 1 of 'train' has no label in 'y'", missing, "y", call=encode_labels)
    refused("no column 'z' of 'train'.*the columns are: y", missing, "z", call=encode_labels)
    refused("no column 'z'", missing, "z", call=class_names)
    mixed = load_dataset({"train": {"y": ["a"]}, "test": {"y": [1]}})
    refused("strings in split 'train' but int64 in split 'test'", mixed, "y", call=encode_labels)


def test_large_files_go_through_the_cache_and_keep_empty_text(here, monkeypatch):
    monkeypatch.setattr(load, "MEMORY_LIMIT", 10)
    loaded = load_dataset(written(here, "a.csv"), cache_dir=str(here / "cache"))
    assert loaded["train"].to_list() == ROWS
    assert loaded["train"].cache_files, "memory-mapped"


def test_an_empty_label_is_no_class(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("text,label\none,yes\ntwo,\nthree,no\n")
    with pytest.raises(DataError, match="row 1 of 'train' has no label in 'label'"):
        encode_labels(load_dataset(str(file)), "label")
