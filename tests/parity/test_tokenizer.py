"""The tokenizer against `transformers.AutoTokenizer`: equal columns on real texts, on any unicode, after saving."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unpad.text import AutoTokenizer

transformers = pytest.importorskip("transformers")

EVERYTHING: dict[str, Any] = {"return_special_tokens_mask": True, "return_offsets_mapping": True}
VOCABULARIES = ("bert-base-uncased", "bert-base-cased", "bert-base-multilingual-cased", "bert-base-chinese")
_loaded: dict[str, tuple[Any, Any]] = {}


def both(folder: str) -> tuple[Any, Any]:
    """Our tokenizer and the reference, read from one folder, once."""
    if folder not in _loaded:
        _loaded[folder] = (AutoTokenizer.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder))
    return _loaded[folder]


def assert_equal_calls(folder: str, *args: Any, **options: Any) -> None:
    """One call of each gives the same keys in the same order, values, word ids and sequence ids."""
    ours, theirs = (tokenizer(*args, **options) for tokenizer in both(folder))
    assert list(ours.keys()) == list(theirs.keys())
    for key in theirs:
        mine, reference = (v.tolist() if hasattr(v, "tolist") else v for v in (ours[key], theirs[key]))
        assert mine == reference, key
    assert len(ours.encodings) == len(theirs.encodings)
    for i in range(len(theirs.encodings)):
        assert ours.word_ids(i) == theirs.word_ids(i)
        assert ours.sequence_ids(i) == theirs.sequence_ids(i)
        assert ours.tokens(i) == theirs.tokens(i)


@pytest.fixture(scope="module")
def texts(real_data: Path) -> dict[str, list[Any]]:
    """Seeded samples of real text, by data set."""
    import pyarrow.parquet as parquet

    draw = random.Random(0)

    def rows(file: str, count: int) -> list[dict[str, Any]]:
        table = parquet.read_table(real_data / file)
        return table.take(sorted(draw.sample(range(len(table)), min(count, len(table))))).to_pylist()

    captions = [r["translation"] for r in rows("multi30k/train.parquet", 500)]
    questions = rows("xquad/es.parquet", 150) + rows("xquad/de.parquet", 150)
    return {
        "mrpc": [(r["sentence1"], r["sentence2"]) for r in rows("mrpc/train.parquet", 1500)],
        "sst2": [r["sentence"] for r in rows("sst2/train.parquet", 1500)],
        "conll": [list(r["tokens"]) for r in rows("conll2003/train.parquet", 1000)],
        "imdb": [r["text"] for r in rows("imdb/train.parquet", 150)],
        "captions": [c["de"] for c in captions] + [c["fr"] for c in captions],
        "xquad": [(r["question"], r["context"]) for r in questions],
    }


@pytest.fixture(params=("minilm", *VOCABULARIES))
def folder(request: pytest.FixtureRequest, minilm: str, real_data: Path) -> str:
    return minilm if request.param == "minilm" else str(real_data / "tokenizers" / request.param)


def test_real_texts_give_equal_ids_offsets_and_words(folder: str, texts: dict[str, list[Any]]) -> None:
    assert sum(map(len, texts.values())) >= 5000
    for name in ("sst2", "captions", "imdb"):
        assert_equal_calls(folder, texts[name], **EVERYTHING)
    for name in ("mrpc", "xquad"):
        first, second = map(list, zip(*texts[name], strict=True))
        assert_equal_calls(folder, first, second, **EVERYTHING)
    assert_equal_calls(folder, texts["conll"], is_split_into_words=True, **EVERYTHING)


@pytest.mark.parametrize("strategy", [True, "only_first", "only_second"])
@pytest.mark.parametrize("overflow", [False, True])
def test_real_pairs_are_cut_alike(minilm: str, texts: dict[str, list[Any]], strategy: Any, overflow: bool) -> None:
    first, second = map(list, zip(*texts["xquad"][:100], strict=True))
    if strategy == "only_first":
        first, second = second, first
    options = {"truncation": strategy, "max_length": 96, "stride": 16, "return_overflowing_tokens": overflow}
    assert_equal_calls(minilm, first, second, **options, **EVERYTHING)
    assert_equal_calls(minilm, first, second, padding="max_length", **options, **EVERYTHING)


@pytest.mark.parametrize("padding", [True, "longest", "max_length"])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("multiple", [None, 8])
def test_real_texts_are_padded_alike(
    minilm: str, texts: dict[str, list[Any]], padding: Any, side: str, multiple: int | None
) -> None:
    options = {"padding": padding, "padding_side": side, "pad_to_multiple_of": multiple, "truncation": True}
    for kind in ("pt", "np", None):
        assert_equal_calls(minilm, texts["sst2"][:40], max_length=40, return_tensors=kind, **options)
        assert_equal_calls(
            minilm, texts["conll"][:40], is_split_into_words=True, max_length=40, return_tensors=kind, **options
        )


def test_real_rows_map_between_tokens_words_and_characters_alike(folder: str, texts: dict[str, list[Any]]) -> None:
    first, second = map(list, zip(*texts["xquad"][::30], strict=True))
    ours, theirs = (t(first, second) for t in both(folder))
    for i, row in enumerate(theirs.encodings):
        for token in range(1, len(row) - 1, 3):
            assert ours.token_to_word(i, token) == theirs.token_to_word(i, token)
            assert ours.token_to_chars(i, token) == theirs.token_to_chars(i, token)
            assert ours.token_to_sequence(i, token) == theirs.token_to_sequence(i, token)
        for char in range(0, len(second[i]), 5):
            assert ours.char_to_token(i, char, 1) == theirs.char_to_token(i, char, 1)
            assert ours.char_to_word(i, char, 1) == theirs.char_to_word(i, char, 1)
        for word in {w for w, s in zip(row.word_ids, row.sequence_ids, strict=True) if s == 1}:
            assert ours.word_to_tokens(i, word, 1) == theirs.word_to_tokens(i, word, 1)
            assert ours.word_to_chars(i, word, 1) == theirs.word_to_chars(i, word, 1)


def test_real_ids_decode_alike(folder: str, texts: dict[str, list[Any]]) -> None:
    ours, theirs = both(folder)
    ids = theirs(texts["sst2"][:200] + texts["captions"][:200], padding=True)["input_ids"]
    for form in (ids, np.array(ids)):
        for options in ({}, {"skip_special_tokens": True}, {"clean_up_tokenization_spaces": True}):
            assert ours.batch_decode(form, **options) == theirs.batch_decode(form, **options)
    assert ours.decode(ids[0]) == theirs.decode(ids[0])
    assert ours.convert_ids_to_tokens(ids[0]) == theirs.convert_ids_to_tokens(ids[0])


def test_settings_of_a_folder_are_read_alike(folder: str) -> None:
    ours, theirs = both(folder)
    for name in (
        "model_max_length", "padding_side", "truncation_side", "model_input_names", "vocab_size", "is_fast",
        "clean_up_tokenization_spaces", "all_special_tokens", "all_special_ids", "special_tokens_map",
        "pad_token_id", "cls_token_id", "sep_token_id", "mask_token_id", "unk_token_id", "bos_token", "eos_token_id",
    ):  # fmt: skip
        assert getattr(ours, name) == getattr(theirs, name), name
    assert len(ours) == len(theirs)
    assert ours.get_vocab() == theirs.get_vocab()
    for pair in (False, True):
        assert ours.num_special_tokens_to_add(pair) == theirs.num_special_tokens_to_add(pair)


any_text = st.text(max_size=60) | st.text(alphabet="aZé ́ß[]CLSPMK#'.İı中\u200d🏳️\t\n\x00", max_size=40)


@given(rows=st.lists(st.tuples(any_text, any_text), min_size=1, max_size=4), data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_unicode_text_gives_what_the_reference_gives(minilm: str, rows: list[Any], data: st.DataObject) -> None:
    options: dict[str, Any] = {"add_special_tokens": data.draw(st.booleans()), "padding": data.draw(st.booleans())}
    if data.draw(st.booleans()):
        options |= {"truncation": True, "max_length": data.draw(st.integers(8, 24))}
        options["return_overflowing_tokens"] = data.draw(st.booleans())
    first, second = map(list, zip(*rows, strict=True))
    assert_equal_calls(minilm, first, **options, **EVERYTHING)
    assert_equal_calls(minilm, first, second, **options, **EVERYTHING)
    assert_equal_calls(minilm, first[0], **options, **EVERYTHING)
    words = [text.split() for text in first]
    assert_equal_calls(minilm, words, is_split_into_words=True, **options, **EVERYTHING)
    ours, theirs = both(minilm)
    ids = theirs(first)["input_ids"]
    assert ours.batch_decode(ids) == theirs.batch_decode(ids)
    assert ours.tokenize(first[0]) == theirs.tokenize(first[0])


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5), data=st.data())
@settings(max_examples=60, deadline=None)
def test_features_are_padded_as_the_reference_pads_them(minilm: str, lengths: list[int], data: st.DataObject) -> None:
    ours, theirs = both(minilm)
    keys = [
        "input_ids",
        *data.draw(st.sets(st.sampled_from(["token_type_ids", "attention_mask", "special_tokens_mask"]))),
    ]
    features = [{**{k: [1] * n for k in keys}, "labels": n} for n in lengths]
    options: dict[str, Any] = {
        "padding": data.draw(st.sampled_from([True, "max_length"])),
        "max_length": data.draw(st.sampled_from([None, 20])),
        "pad_to_multiple_of": data.draw(st.sampled_from([None, 8])),
        "padding_side": data.draw(st.sampled_from([None, "left"])),
        "return_tensors": data.draw(st.sampled_from([None, "pt", "np"])),
    }
    mine, reference = (
        ours.pad([dict(f) for f in features], **options),
        theirs.pad([dict(f) for f in features], **options),
    )
    assert set(mine) == set(reference)
    for key in reference:
        assert type(mine[key]) is type(reference[key])
        assert np.array_equal(np.asarray(mine[key]), np.asarray(reference[key])), key


def test_a_saved_tokenizer_is_the_same_there_and_back(minilm: str, tmp_path: Path) -> None:
    ours = AutoTokenizer.from_pretrained(minilm, model_max_length=77, padding_side="left")
    ours.add_tokens(["wörd-pieces"])
    ours.add_special_tokens({"additional_special_tokens": ["<a>", "<b>"]})
    ours.save_pretrained(tmp_path / "ours")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    back = AutoTokenizer.from_pretrained(tmp_path / "theirs")
    rows = ["Ein <a> Text mit wörd-pieces, [MASK] und <b>.", "kurz", "<A> wÖrd-pieces"]
    want = ours(rows, padding=True)
    assert len(ours) == 30525
    for other in (theirs, back):
        assert dict(other(rows, padding=True)) == dict(want)
        assert other.model_max_length == 77
        assert other.padding_side == "left"
        assert other.all_special_tokens == ours.all_special_tokens
        assert other.decode(want["input_ids"][0], skip_special_tokens=True) == ours.decode(
            want["input_ids"][0], skip_special_tokens=True
        )


def test_a_vocabulary_file_saves_to_what_the_reference_reads(folder: str, tmp_path: Path) -> None:
    ours, theirs = both(folder)
    ours.save_pretrained(tmp_path)
    rows = ["Ünïcode, 中文 and UPPER case", "[CLS] marks"]
    want = dict(theirs(rows, return_offsets_mapping=True))
    assert dict(transformers.AutoTokenizer.from_pretrained(tmp_path)(rows, return_offsets_mapping=True)) == want
    assert dict(AutoTokenizer.from_pretrained(tmp_path)(rows, return_offsets_mapping=True)) == want


@pytest.mark.parametrize(
    "changes",
    [{"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}, {"cls_token": "[MASK]"}],
)
def test_overrides_act_as_in_the_reference(minilm: str, changes: dict[str, Any]) -> None:
    ours = AutoTokenizer.from_pretrained(minilm, **changes)
    theirs = transformers.AutoTokenizer.from_pretrained(minilm, **changes)
    for row in ("Ünïcode 中文 UPPER lower", "café"):
        assert ours(row)["input_ids"] == theirs(row)["input_ids"]
