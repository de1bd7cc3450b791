"""Damaged, foreign and missing tokenizer files, and arguments that are none: one line that names what is wrong and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unpad.errors import ArgumentError, CheckpointError, DataError, UnpadError
from unpad.text import AutoTokenizer, Tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s"]
IDS = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "c", "a", "t", "ca", "cat", "<mask>"])}
MERGES = "#version: 0.2\nc a\nca t\n"


def piece(text: str, kind: int = 1) -> bytes:
    """One piece of a SentencePiece file: text, score 0, type."""
    inside = b"\x0a" + bytes([len(text.encode())]) + text.encode() + b"\x15\0\0\0\0\x18" + bytes([kind])
    return b"\x0a" + bytes([len(inside)]) + inside


MODEL = b"".join([piece("<unk>", 2), piece("<s>", 3), piece("</s>", 3), piece("▁cat"), piece("s"), b"\x12\x02\x18\x01"])
WORD_MODEL = MODEL[:-1] + b"\x03"


def folder(path: Path, cls: str = "", **files: Any) -> Path:
    """A folder with files (name=content, `__` for a dot) and, given a class, a tokenizer_config.json."""
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        content = json.dumps(content) if isinstance(content, dict) else content
        data = content if isinstance(content, bytes) else content.encode()
        (path / name.replace("__", ".")).write_bytes(data)
    if cls:
        (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": cls}))
    return path


@pytest.fixture
def tok(tmp_path: Path) -> Tokenizer:
    return AutoTokenizer.from_pretrained(folder(tmp_path / "tok", "BertTokenizer", vocab__txt="\n".join(WORDS)))


def one_line(caught: pytest.ExceptionInfo[UnpadError], *said: str) -> None:
    line = str(caught.value)
    assert "\n" not in line and len(line) < 1000
    for part in said:
        assert part in line


def test_the_files_of_these_tests_are_sound(tmp_path: Path) -> None:
    roberta = folder(tmp_path / "bpe", "RobertaTokenizer", vocab__json=IDS, merges__txt=MERGES)
    assert AutoTokenizer.from_pretrained(roberta)("cat")["input_ids"] == [0, 8, 2]
    xlm = folder(tmp_path / "spm", "XLMRobertaTokenizer", sentencepiece__bpe__model=MODEL)
    assert AutoTokenizer.from_pretrained(xlm)("cats")["input_ids"] == [0, 4, 5, 2]
    assert AutoTokenizer.from_pretrained(xlm / "sentencepiece.bpe.model")("cats")["input_ids"] == [0, 4, 5, 2]
    assert AutoTokenizer.from_pretrained(roberta / "vocab.json")("cat")["input_ids"] == [0, 8, 2]


@pytest.mark.parametrize(
    ("cls", "files", "said"),
    [
        ("RobertaTokenizer", {"vocab__json": IDS}, ("merges.txt", "No such file", "copy")),
        ("RobertaTokenizer", {"vocab__json": IDS, "merges__txt": MERGES + "c a t\n"}, ("merges.txt", "line 4", "'c a t'")),
        ("RobertaTokenizer", {"vocab__json": IDS, "merges__txt": MERGES + "cat\n"}, ("merges.txt", "line 4")),
        ("RobertaTokenizer", {"vocab__json": IDS, "merges__txt": MERGES + "t a\n"}, ("merges.txt", "line 4", "no 'ta'")),
        ("RobertaTokenizer", {"vocab__json": IDS, "merges__txt": b"\xff\xfe\0"}, ("merges.txt", "decode")),
        ("RobertaTokenizer", {"vocab__json": '{"a": ', "merges__txt": MERGES}, ("vocab.json", "copy")),
        ("RobertaTokenizer", {"vocab__json": "[1, 2]", "merges__txt": MERGES}, ("vocab.json", "dictionary of tokens")),
        ("RobertaTokenizer", {"vocab__json": {"a": "b"}, "merges__txt": MERGES}, ("vocab.json", "dictionary of tokens")),
        ("RobertaTokenizer", {"vocab__json": {**IDS, "x": 2**40}, "merges__txt": MERGES}, ("vocab.json", "copy")),
        ("AlbertTokenizer", {"spiece__model": MODEL[:-9]}, ("spiece.model", "SentencePiece", "copy")),
        ("AlbertTokenizer", {"spiece__model": MODEL + b"\x1a\x7f\x12\x03abc"}, ("spiece.model", "breaks off", "copy")),
        ("AlbertTokenizer", {"spiece__model": b""}, ("spiece.model", "0 pieces")),
        ("AlbertTokenizer", {"spiece__model": b"IQ== 0\nIg== 1\n"}, ("spiece.model", "no SentencePiece model")),
        ("AlbertTokenizer", {"spiece__model": piece("<unk>", 2) + piece("")}, ("spiece.model", "piece 1 has no text")),
        ("AlbertTokenizer", {"spiece__model": piece("a") + piece("b")}, ("spiece.model", "unknown token")),
        ("AlbertTokenizer", {"spiece__model": WORD_MODEL}, ("spiece.model", "model type is 3", "Unigram")),
        ("AlbertTokenizer", {"spiece__model": MODEL + b"\x1a\x05\x12\x03abc"}, ("spiece.model", "copy it again")),
        ("AlbertTokenizer", {"vocab__json": IDS, "merges__txt": MERGES}, ("vocab.json", "AlbertTokenizer", "RobertaTokenizer")),
        ("RobertaTokenizer", {"spiece__model": MODEL}, ("spiece.model", "RobertaTokenizer", "XLMRobertaTokenizer")),
        ("AlbertTokeniser", {"spiece__model": MODEL}, ("did you mean 'AlbertTokenizer'", "tokenizer_class=")),
        ("", {"spiece__model": MODEL}, ("spiece.model", "nothing says", "tokenizer_class=")),
        ("PreTrainedTokenizerFast", {"vocab__json": IDS, "merges__txt": MERGES}, ("nothing says", "tokenizer.json")),
    ],
)  # fmt: skip
def test_files_that_are_no_vocabulary_are_named(cls: str, files: dict[str, Any], said: tuple[str, ...], tmp_path: Path) -> None:  # fmt: skip
    with pytest.raises(CheckpointError) as caught:
        AutoTokenizer.from_pretrained(folder(tmp_path / "bad", cls, **files))
    one_line(caught, *said)


@given(st.binary(max_size=60) | st.tuples(st.integers(0, len(MODEL)), st.binary(max_size=4), st.integers(0, 4)).map(lambda cut: MODEL[: cut[0]] + cut[1] + MODEL[cut[0] + cut[2] :]))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_damage_to_a_model_file_is_read_or_refused_in_one_line(data: bytes) -> None:
    from unpad.text import _sentencepiece

    class Stub(type(Path())):  # type: ignore[misc]
        def read_bytes(self) -> bytes:
            return data

    try:
        assert _sentencepiece.read(Stub("x.model")).unknown
    except CheckpointError as error:
        assert "\n" not in str(error) and "x.model" in str(error)


CALLS: dict[str, tuple[Callable[[Tokenizer], Any], type[UnpadError], tuple[str, ...]]] = {
    "no ids": (lambda t: t.decode(None), ArgumentError, ("None", "list of ids")),
    "a text for ids": (lambda t: t.decode("cat"), ArgumentError, ("'cat'", "list of ids")),
    "no rows of ids": (lambda t: t.batch_decode(None), ArgumentError, ("None", "list of ids")),
    "no features": (lambda t: t.pad(None), ArgumentError, ("None", "features")),
    "a number of features": (lambda t: t.pad(3), ArgumentError, ("3", "features")),
    "no tokens": (lambda t: t.convert_tokens_to_ids(None), ArgumentError, ("None", "string")),
    "no token among tokens": (lambda t: t.convert_tokens_to_ids(["the", 3]), ArgumentError, ("3", "string")),
    "a number for a token": (lambda t: t.add_tokens(3), ArgumentError, ("3", "string")),
    "numbers for tokens": (lambda t: t.add_tokens([3]), ArgumentError, ("3", "string")),
    "a vocabulary of no tokens": (lambda t: t.train_new_from_iterator(["a"], 0), ArgumentError, ("vocab_size=0",)),
    "a vocabulary of many": (lambda t: t.train_new_from_iterator(["a"], "many"), ArgumentError, ("vocab_size='many'",)),
    "one text to train on": (lambda t: t.train_new_from_iterator("a text", 30), ArgumentError, ("str", "lists of texts")),
    "nothing to train on": (lambda t: t.train_new_from_iterator(None, 30), ArgumentError, ("NoneType",)),
    "no texts to train on": (lambda t: t.train_new_from_iterator([], 30), DataError, ("no texts",)),
    "empty texts to train on": (lambda t: t.train_new_from_iterator(iter(["", [" ", "\n"]]), 30), DataError, ("none of them",)),
    "numbers to train on": (lambda t: t.train_new_from_iterator([1, 2], 30), DataError, ("strings",)),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_an_argument_that_is_none_gives_one_clear_line(name: str, tok: Tokenizer) -> None:
    call, kind, said = CALLS[name]
    with pytest.raises(kind) as caught:
        call(tok)
    one_line(caught, *said)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model_max_length": "a"}, ("model_max_length='a'", "whole number")),
        ({"model_max_length": 0}, ("model_max_length=0", "above 0")),
        ({"model_max_length": float("nan")}, ("model_max_length=nan", "whole number")),
        ({"model_max_length": True}, ("model_max_length=True", "bool")),
        ({"add_prefix_space": "yes"}, ("add_prefix_space='yes'", "bool")),
        ({"extra_ids": 2.5}, ("extra_ids=2.5", "int")),
        ({"add_prefix_spaces": True}, ("did you mean 'add_prefix_space'",)),
    ],
)
def test_an_option_of_a_wrong_type_is_refused(options: dict[str, Any], said: tuple[str, ...], tmp_path: Path) -> None:
    path = folder(tmp_path / "bpe", "RobertaTokenizer", vocab__json=IDS, merges__txt=MERGES)
    with pytest.raises(ArgumentError) as caught:
        AutoTokenizer.from_pretrained(path, **options)
    one_line(caught, *said)


@pytest.mark.parametrize(
    ("settings_", "said"),
    [({"cls_token": {"a": 1}}, "has no text"), ({"added_tokens_decoder": {"x": {"content": "y"}}}, "has the key 'x'")],
)
def test_tokens_without_a_text_or_an_id_are_named(settings_: dict[str, Any], said: str, tmp_path: Path) -> None:
    place = folder(tmp_path / "tok", vocab__txt="\n".join(WORDS), tokenizer_config__json={"tokenizer_class": "BertTokenizer", **settings_})  # fmt: skip
    with pytest.raises(CheckpointError, match=said):
        AutoTokenizer.from_pretrained(place)
