"""The tokenizer by itself: what it accepts, refuses, counts, keeps through pickles and writes back."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unpad.errors import ArgumentError, CheckpointError, DataError, UnpadError
from unpad.text import AutoTokenizer, BatchEncoding, Tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", "##a", "##b", "!", "'", "s", "É", "?"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny WordPiece checkpoint of 20 tokens."""
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    config = {"tokenizer_class": "BertTokenizer", "model_max_length": 16, "house_rule": {"kept": [1]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.fixture
def tok(folder: Path) -> Tokenizer:
    return AutoTokenizer.from_pretrained(folder)


def the_line(error: pytest.ExceptionInfo[UnpadError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- what a call accepts ----


def test_a_batch_can_be_any_sequence_of_strings(tok: Tokenizer) -> None:
    import datasets
    import pandas

    rows = ["a b", "c", ""]
    want = tok(rows)["input_ids"]
    table = datasets.Dataset.from_dict({"text": rows, "words": [r.split() for r in rows]})
    for form in (tuple(rows), np.array(rows), np.array(rows, dtype=object), pandas.Series(rows), table["text"],
                 table.data["text"]):  # fmt: skip
        assert tok(form)["input_ids"] == want
        assert tok(form, form)["input_ids"] == tok(rows, rows)["input_ids"]
    words = tok([r.split() for r in rows], is_split_into_words=True)
    assert tok(table["words"], is_split_into_words=True).data == words.data
    assert tok([np.array(r.split()) for r in rows], is_split_into_words=True).data == words.data


def test_an_empty_batch_gives_empty_columns(tok: Tokenizer) -> None:
    assert tok([]).data == {"input_ids": [], "token_type_ids": [], "attention_mask": []}
    assert tok([], [], padding=True, truncation=True).data == tok([]).data


@given(text=st.text(max_size=20), pair=st.none() | st.text(max_size=20))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_text_alone_is_encoded_as_in_a_batch(tok: Tokenizer, text: str, pair: str | None) -> None:
    alone = tok(text, pair)
    batch = tok([text, "a"], None if pair is None else [pair, "b"])
    assert {k: v[0] for k, v in batch.items()} == alone.data


def test_a_missing_row_is_named(tok: Tokenizer) -> None:
    rows: list[Any] = ["a"] * 30
    rows[17] = None
    with pytest.raises(DataError) as error:
        tok(rows)
    assert "row 17" in the_line(error) and "None" in the_line(error)
    with pytest.raises(DataError) as error:
        tok(["a"] * 30, rows)
    assert "row 17" in the_line(error) and "second" in the_line(error)
    with pytest.raises(DataError) as error:
        tok([["a"], ["b", None]], is_split_into_words=True)
    assert "row 1" in the_line(error) and "word 1" in the_line(error)


@pytest.mark.parametrize(
    ("args", "options", "hint"),
    [
        ((3,), {}, "int"),
        (({"a": 1},), {}, "dict"),
        ((b"a",), {}, "bytes"),
        ((["a", float("nan")],), {}, "row 1"),
        ((["a", "\ud800"],), {}, "surrogate"),
        (([["a", "b", "c"], ["a"]],), {}, "is_split_into_words"),
        (("a b",), {"is_split_into_words": True}, "list of words"),
        ((["a", "b"], ["a"]), {}, "2 rows"),
        ((["a", "b"], "a"), {}, "single"),
        (("a", 5), {}, "text_pair"),
        ((["a", "b b"],), {"return_tensors": "pt"}, "padding=True"),
        ((["a", "b b"],), {"return_tensors": "np"}, "padding=True"),
        ((["a", "b c d e f g"],), {"truncation": "only_second", "max_length": 5}, "row 1"),
    ],
)
def test_what_is_not_text_gives_one_clear_line(tok: Tokenizer, args: Any, options: Any, hint: str) -> None:
    if hint == "row 1" and "truncation" in options:
        args = (["a", "a b c d e f g h"], ["b", "c"])
    with pytest.raises(DataError) as error:
        tok(*args, **options)
    assert hint in the_line(error)
    assert tok("a b")["input_ids"] == [2, 5, 6, 3], "the tokenizer still works afterwards"


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"truncaton": True}, "did you mean 'truncation'"),
        ({"padding": "maxlength"}, "did you mean 'max_length'"),
        ({"truncation": "first"}, "only_first"),
        ({"padding": True, "padding_side": "top"}, "'left'"),
        ({"return_tensors": "tf"}, "'pt'"),
        ({"truncation": True, "max_length": 1}, "special tokens"),
        ({"truncation": True, "max_length": 4, "stride": 2}, "stride=2"),
        ({"truncation": True, "padding": True, "max_length": 9, "pad_to_multiple_of": 8}, "multiple"),
    ],
)
def test_an_option_that_cannot_be_met_gives_one_clear_line(tok: Tokenizer, options: Any, hint: str) -> None:
    with pytest.raises(ArgumentError) as error:
        tok("a b c", **options)
    assert hint in the_line(error)


def test_padding_without_a_pad_token_says_what_to_set(tok: Tokenizer) -> None:
    tok.pad_token = None
    with pytest.raises(ArgumentError, match="pad_token"):
        tok(["a", "a b"], padding=True)
    tok.pad_token_id = 4
    assert tok.pad_token == "[MASK]"
    assert tok(["a", "a b"], padding=True)["input_ids"][0] == [2, 5, 3, 4]


def test_targets_become_labels(tok: Tokenizer) -> None:
    both = tok(["a"], text_target=["b c"], truncation=True, max_length=3)
    assert both["labels"] == [[2, 6, 3]]
    assert "labels" not in tok(text_target="b")
    with tok.as_target_tokenizer():
        assert tok("b c")["input_ids"] == tok(text_target="b c")["input_ids"]


# ---- what a call returns ----


def test_a_batch_is_a_mapping_with_attributes(tok: Tokenizer) -> None:
    import torch

    batch = tok(["a b", "c"], padding=True, return_tensors="pt")
    assert isinstance(batch, Mapping) and {**batch}.keys() == batch.keys()
    assert batch.input_ids is batch["input_ids"] and batch.input_ids.dtype == torch.int64
    assert repr(batch) == repr(dict(batch))
    assert batch.to("meta").input_ids.device.type == "meta"
    assert tok(["a", "b"])[0].tokens == ["[CLS]", "a", "[SEP]"]
    assert not hasattr(batch, "labels")
    with pytest.raises(DataError, match="remember"):
        tok.pad({"input_ids": [[1], [2]]}).tokens()


def test_floating_labels_become_the_default_float_type() -> None:
    import torch

    batch = BatchEncoding(
        {"labels": [0.5, 1.5], "flags": [True, False], "rows": [torch.tensor([1]), torch.tensor([2])]}
    )
    batch.convert_to_tensors("pt")
    assert batch["labels"].dtype == torch.float32
    assert batch["flags"].dtype == torch.bool
    assert batch["rows"].tolist() == [[1], [2]]


def test_a_batch_survives_pickling(tok: Tokenizer) -> None:
    batch = pickle.loads(pickle.dumps(tok(["a b"], return_offsets_mapping=True)))
    assert batch.tokens() == ["[CLS]", "a", "b", "[SEP]"]
    assert batch.char_to_token(2) == 2


def test_options_of_one_call_never_reach_the_next(tok: Tokenizer) -> None:
    plain = tok(["a b c d", "a"]).data
    tok(["a b c d", "a"], truncation=True, max_length=4, padding="max_length", padding_side="left")
    assert tok(["a b c d", "a"]).data == plain


def test_threads_with_different_options_do_not_mix(tok: Tokenizer) -> None:
    rows = ["a b c d e f g h"] * 50

    def run(length: int) -> bool:
        ids = tok(rows, truncation=True, max_length=length)["input_ids"]
        return all(len(i) == length for i in ids)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, [4, 5, 6, 7, 8] * 40))


def test_lengths_in_a_tokenizer_json_never_reach_calls(minilm: str) -> None:
    stored = json.loads((Path(minilm) / "tokenizer.json").read_text())
    assert stored["truncation"] and stored["padding"], "this checkpoint stores both"
    ids = AutoTokenizer.from_pretrained(minilm)("word " * 200)["input_ids"]
    assert len(ids) == 202


# ---- what truncation costs ----


@given(
    rows=st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), min_size=1, max_size=5),
    limit=st.integers(7, 14),
    stride=st.integers(0, 1),
    pair=st.booleans(),
    padding=st.sampled_from([False, True, "max_length"]),
    specials=st.booleans(),
    side=st.sampled_from(["left", "right"]),
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_report_counts_what_a_call_without_truncation_would_have_kept(
    tok: Tokenizer, rows: Any, limit: int, stride: int, pair: bool, padding: Any, specials: bool, side: str
) -> None:
    tok.truncation_side = side
    first, second = (["a " * row[i] for row in rows] for i in (0, 1))
    args = (first, second) if pair else (first,)
    options = {"add_special_tokens": specials, "return_special_tokens_mask": True}
    strategies = ["longest_first"] + ["only_first"] * (not pair)
    if pair and max(r[0] for r in rows) + 3 < limit - stride:
        strategies.append("only_second")
    for strategy in strategies:
        tok.reset_truncation_report()
        cut = tok(*args, truncation=strategy, max_length=limit, stride=stride, padding=padding, **options)
        whole = tok(*args, **options)
        before, after = ([row.count(0) for row in batch["special_tokens_mask"]] for batch in (whole, cut))
        report = tok.truncation_report()
        assert (report.texts, report.tokens_before) == (len(rows), sum(before))
        assert report.tokens_lost == sum(before) - sum(after)
        assert report.truncated == sum(b > a for a, b in zip(after, before, strict=True))
        assert report.share == pytest.approx(report.tokens_lost / max(1, report.tokens_before))
        tok(*args, truncation=strategy, max_length=limit, stride=stride, return_overflowing_tokens=True)
        assert tok.truncation_report().tokens_lost == report.tokens_lost, "what comes back as rows is not lost"


def test_only_second_with_a_stride_counts_the_overlap_once(tok: Tokenizer) -> None:
    tok("a b c", "a " * 30, truncation="only_second", max_length=12, stride=3)
    report = tok.truncation_report()
    assert (report.tokens_before, report.tokens_lost) == (33, 33 - 9)
    assert str(report) == "1 of 1 texts were truncated; 72.7% of their tokens were lost"


def test_a_text_longer_than_the_model_is_said_once(tok: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    tok.name_or_path = "said-once"
    with caplog.at_level("INFO", logger="unpad"):
        for _ in range(2):
            tok("a " * 30)
        tok("a " * 30, truncation=True)
    said = [r.message for r in caplog.records if "longer than the model" in r.message]
    assert len(said) == 1 and "32 tokens" in said[0] and "(16)" in said[0]


# ---- ids back to text ----


def test_decode_takes_lists_arrays_and_tensors(tok: Tokenizer) -> None:
    import torch

    ids = tok(["a b", "c !"], padding=True)["input_ids"]
    want = ["[CLS] a b [SEP]", "[CLS] c! [SEP]"]
    for form in (ids, np.array(ids), torch.tensor(ids), [np.array(i) for i in ids], [torch.tensor(i) for i in ids]):
        assert tok.batch_decode(form) == want
        assert tok.decode(form) == want
        assert tok.decode(form[0], skip_special_tokens=True) == "a b"
    assert tok.decode(5) == tok.decode([torch.tensor(5)]) == tok.decode(np.int64(5)) == "a"
    assert tok.batch_decode([]) == []
    assert tok.convert_ids_to_tokens(torch.tensor([2, 5]), skip_special_tokens=True) == ["a"]


@pytest.mark.parametrize("bad", [-100, 20, 2**40, 0.5, None])
def test_an_id_that_is_none_gives_one_clear_line(tok: Tokenizer, bad: Any) -> None:
    for call in (tok.batch_decode, tok.decode):
        with pytest.raises(DataError) as error:
            call([[2, 5], [5, bad]])
        assert "row 1" in the_line(error)
    with pytest.raises(DataError) as error:
        tok.convert_ids_to_tokens([bad])
    if bad == -100:
        assert "np.where" in the_line(error)
    if bad == 20:
        assert "20 tokens" in the_line(error)


# ---- padding features ----


def test_labels_are_left_alone_by_padding(tok: Tokenizer) -> None:
    batch = tok.pad([{"input_ids": [5], "labels": [1, 2]}, {"input_ids": [5, 6], "labels": [3, 4]}])
    assert batch.data == {
        "input_ids": [[5, 0], [5, 6]], "labels": [[1, 2], [3, 4]], "attention_mask": [[1, 0], [1, 1]],
    }  # fmt: skip


def test_tensors_in_give_tensors_out(tok: Tokenizer) -> None:
    import torch

    batch = tok.pad([{"input_ids": torch.tensor([5])}, {"input_ids": torch.tensor([5, 6])}])
    assert isinstance(batch["input_ids"], torch.Tensor)
    assert isinstance(tok.pad({"input_ids": [np.array([5]), np.array([5, 6])]})["input_ids"], np.ndarray)


def test_features_that_do_not_fit_are_named(tok: Tokenizer) -> None:
    for features, hint in (
        ([{"input_ids": [1]}, {"input_ids": [1], "label": 1}], "label"),
        ([{"text": "a"}], "input_ids"),
        ([{"input_ids": [1]}, [1]], "feature 1"),
        ([], "no features"),
    ):
        with pytest.raises(DataError) as error:
            tok.pad(features)
        assert hint in the_line(error)
    with pytest.raises(DataError, match="'labels'"):
        tok.pad([{"input_ids": [1], "labels": [1]}, {"input_ids": [1], "labels": [1, 2]}], return_tensors="pt")


# ---- files, copies, fingerprints ----


def test_a_vocabulary_file_alone_is_enough(folder: Path, tok: Tokenizer) -> None:
    alone = AutoTokenizer.from_pretrained(folder / "vocab.txt")
    assert alone("a É")["input_ids"] == tok("a É")["input_ids"]
    tok.save_pretrained(folder / "saved")
    assert AutoTokenizer.from_pretrained(folder / "saved" / "tokenizer.json")("a b").data == tok("a b").data


def test_saving_keeps_keys_and_settings(folder: Path) -> None:
    tok = AutoTokenizer.from_pretrained(folder, do_lower_case=False, truncation_side="left", pad_token="[MASK]")
    assert tok.tokenize("É") == ["É"]
    tok(["a", "b c"], truncation=True, max_length=3, padding=True)
    tok.save_pretrained(folder / "saved")
    config = json.loads((folder / "saved" / "tokenizer_config.json").read_text())
    assert config["house_rule"] == {"kept": [1]}
    stored = json.loads((folder / "saved" / "tokenizer.json").read_text())
    assert stored["truncation"] is None and stored["padding"] is None
    again = AutoTokenizer.from_pretrained(folder / "saved")
    assert again.tokenize("É a") == ["É", "a"]
    assert (again.truncation_side, again.pad_token_id, again.model_max_length) == ("left", 4, 16)


def test_special_tokens_are_read_from_every_file_that_may_hold_them(folder: Path) -> None:
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"mask_token": {"content": "<m>", "lstrip": True}, "additional_special_tokens": ["<x>"]})
    )
    (folder / "added_tokens.json").write_text(json.dumps({"<z>": 21, "<y>": 20}))
    tok = AutoTokenizer.from_pretrained(folder)
    assert tok.convert_tokens_to_ids(["<y>", "<z>", "<m>", "<x>"]) == [20, 21, 22, 23]
    assert tok.mask_token_id == 22 and tok.additional_special_tokens == ["<x>"]
    assert tok.tokenize("a <m> b<x>c") == ["a", " <m>", "b", "<x>", "c"]
    assert tok.decode(tok("a <x>")["input_ids"], skip_special_tokens=True) == "a"
    assert (tok.vocab_size, len(tok)) == (20, 24)


def test_added_tokens_whose_ids_leave_a_gap_are_refused(folder: Path) -> None:
    (folder / "added_tokens.json").write_text(json.dumps({"<y>": 25}))
    with pytest.raises(CheckpointError) as error:
        AutoTokenizer.from_pretrained(folder)
    assert "'<y>'" in the_line(error) and "25" in the_line(error) and "20" in the_line(error)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("./nowhere/at-all", "no such file"),
        ("/nowhere/vocab.txt", "no such file"),
        ("owner/model-that-is-not-cached", "offline"),
        ("not a name!", "neither"),
        ("empty", "no tokenizer files"),
        ("broken", "not a readable tokenizer.json"),
        ("wrong", "no line '[UNK]'"),
        ("binary", "UTF-8"),
        ("config", "tokenizer_config.json"),
        ("weights.bin", "give a tokenizer.json"),
    ],
)
def test_a_tokenizer_that_cannot_be_had_says_why(tmp_path: Path, name: str, hint: str) -> None:
    for part in ("empty", "broken", "wrong", "binary", "config"):
        (tmp_path / part).mkdir()
    (tmp_path / "empty" / "model.safetensors").write_bytes(b"")
    (tmp_path / "broken" / "tokenizer.json").write_text('{"version": ')
    (tmp_path / "wrong" / "vocab.txt").write_text("the\nof\n")
    (tmp_path / "binary" / "vocab.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "config" / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    (tmp_path / "config" / "tokenizer_config.json").write_text("[]")
    (tmp_path / "weights.bin").write_bytes(b"")
    path = tmp_path / name
    with pytest.raises(CheckpointError) as error:
        AutoTokenizer.from_pretrained(path if path.exists() else name, local_files_only=True)
    assert hint in the_line(error)


def test_wrong_arguments_of_from_pretrained_are_refused(folder: Path) -> None:
    with pytest.raises(ArgumentError, match="did you mean 'do_lower_case'"):
        AutoTokenizer.from_pretrained(folder, do_lowercase=True)
    with pytest.raises(ArgumentError, match="never runs code"):
        AutoTokenizer.from_pretrained(folder, trust_remote_code=True)


def test_a_folder_that_cannot_be_written_says_so(folder: Path, tok: Tokenizer) -> None:
    with pytest.raises(CheckpointError) as error:
        tok.save_pretrained(folder / "vocab.txt")
    assert "cannot be saved" in the_line(error)


def test_copies_equal_the_original_and_start_counting_anew(tok: Tokenizer) -> None:
    tok.add_special_tokens({"additional_special_tokens": ["<x>"], "eos_token": "[SEP]"})
    tok.padding_side = "left"
    tok("a " * 30, truncation=True)
    for other in (copy.deepcopy(tok), pickle.loads(pickle.dumps(tok))):
        assert repr(other) == repr(tok) and "21 tokens" in repr(tok)
        assert other(["a <x>", "b"], padding=True).data == tok(["a <x>", "b"], padding=True).data
        assert other.truncation_report().texts == 0


def test_calling_a_tokenizer_never_changes_the_fingerprint_of_a_map(tok: Tokenizer) -> None:
    from datasets.fingerprint import Hasher

    def encode(row: dict[str, Any]) -> Any:
        return tok(row["text"], truncation=True)

    before = Hasher.hash(encode)
    tok(["a", "b c"], padding="max_length", max_length=7, truncation=True, stride=1)
    encode({"text": "a " * 40})
    assert Hasher.hash(encode) == before
    tok.model_max_length = 5
    assert Hasher.hash(encode) != before, "a setting that changes results changes the fingerprint"


def test_importing_the_tokenizer_imports_no_torch() -> None:
    code = "import sys, unpad.text; sys.exit('torch' in sys.modules or 'datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["max_length", "stride", "pad_to_multiple_of"])
@pytest.mark.parametrize("value", ["8", 2.5, True])
def test_lengths_that_are_no_whole_numbers_are_refused(tok: Tokenizer, name: str, value: Any) -> None:
    with pytest.raises(ArgumentError) as error:
        tok("a b", truncation=True, **{name: value})
    assert f"{name}={value!r}" in the_line(error)
