"""Tokenizers of texts that a model writes: Marian's two sides, language codes, `text_target=`, and vocabularies trained from nothing."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unpad.errors import ArgumentError, CheckpointError, UnpadError
from unpad.text import AutoTokenizer, Tokenizer

transformers = pytest.importorskip("transformers")

MARIAN = ("opus-mt-tc-big-fr-en", "opus-mt-tc-big-en-pt")
HARD = [
    "Ünïcode café, ﬁne ①②  and ``UPPER'' İ ß 中文", " leading", "tab\tand\nline", "", "   ", "a </s> b ▁ c", "👩‍🚀🏳️‍🌈",
    "٣٤ हिन्दी ไทย", "don't (stop) 1,000.50! —– —hm", "x <unk> y <pad>", "d'or\x85…ôô ù",
]  # fmt: skip
DIGESTS: dict[str, list[str]] = {
    "opus-mt-tc-big-fr-en": ["01c69c8aa18bf7ad", "fe29e80eb9a7a4b3", "91e47e060d9ba3a2"],
    "opus-mt-tc-big-en-pt": ["b1c3552210de4f0c", "564c86499124e9ec", "25c3742008e95880"],
}
"""Of ids of sources, ids of targets and decoded targets, as MarianTokenizer of transformers 5.23 with sentencepiece 0.2.3 gives them."""


@pytest.fixture(scope="module")
def sentences(real_data: Path) -> list[str]:
    """2,011 texts: real captions in English and French, and hard ones."""
    import pyarrow.parquet as parquet

    rows = parquet.read_table(real_data / "multi30k" / "test.parquet").to_pylist()
    return [row["translation"][key] for key in ("en", "fr") for row in rows[:1000]] + HARD


@pytest.fixture(scope="module")
def marian(real_data: Path) -> Callable[[str], Tokenizer]:
    loaded: dict[str, Tokenizer] = {}

    def read(name: str) -> Tokenizer:
        if name not in loaded:
            loaded[name] = AutoTokenizer.from_pretrained(real_data / "tokenizers" / name)
        return loaded[name]

    return read


def digests(tokenizer: Any, texts: list[str], **options: Any) -> list[str]:
    source, target = tokenizer(texts)["input_ids"], tokenizer(text_target=texts)["input_ids"]
    shown = [tokenizer.decode(row, **options) for row in target]
    return [hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16] for found in (source, target, shown)]


@pytest.mark.parametrize("name", MARIAN)
def test_marian_gives_the_ids_and_texts_of_the_reference(
    name: str, marian: Callable[[str], Tokenizer], sentences: list[str]
) -> None:
    ours = marian(name)
    assert digests(ours, sentences) == DIGESTS[name]


@pytest.mark.parametrize("name", MARIAN)
def test_marian_equals_the_reference_where_sentencepiece_is_installed(
    name: str, marian: Callable[[str], Tokenizer], sentences: list[str], real_data: Path
) -> None:
    pytest.importorskip("sentencepiece")
    ours, theirs = marian(name), transformers.AutoTokenizer.from_pretrained(real_data / "tokenizers" / name)
    assert digests(theirs, sentences, use_source_tokenizer=False) == DIGESTS[name]
    both = [t(sentences, text_target=sentences) for t in (ours, theirs)]
    assert both[0]["input_ids"] == both[1]["input_ids"]
    assert both[0]["labels"] == both[1]["labels"]
    assert ours.get_vocab() == theirs.get_vocab()
    for key in ("special_tokens_map", "model_max_length", "vocab_size", "pad_token_id", "clean_up_tokenization_spaces"):
        assert getattr(ours, key) == getattr(theirs, key), key
    for options in ({"skip_special_tokens": True}, {"skip_special_tokens": True, "clean_up_tokenization_spaces": True}):
        assert ours.batch_decode(both[0]["labels"], **options) == theirs.batch_decode(both[0]["labels"], **options)


@pytest.mark.parametrize("name", MARIAN)
def test_the_two_sides_of_marian_differ_and_decode_to_the_text(name: str, marian: Callable[[str], Tokenizer]) -> None:
    tokenizer = marian(name)
    text = "The white dogs are running over the green field."
    batch = tokenizer(text, text_target=text)
    assert batch["input_ids"] != batch["labels"] == tokenizer(text_target=text)["input_ids"]
    assert batch["labels"][-1] == tokenizer.eos_token_id
    assert tokenizer.decode(batch["labels"], skip_special_tokens=True) == text
    with tokenizer.as_target_tokenizer():
        assert tokenizer(text)["input_ids"] == batch["labels"]
    assert tokenizer(text)["input_ids"] == batch["input_ids"]
    cut = tokenizer(text, text_target=text, truncation=True, max_length=5)
    assert cut["labels"] == [*batch["labels"][:4], tokenizer.eos_token_id]
    padded = tokenizer([text, "Hi"], text_target=[text, "Hi"], padding=True)
    assert {len(row) for row in padded["labels"]} == {len(batch["labels"])}
    assert padded["labels"][1][-1] == tokenizer.pad_token_id
    found = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    for token, (start, end) in zip(found.tokens(), found["offset_mapping"], strict=True):
        assert token == "▁" or text[start:end] == token.removeprefix("▁")


def test_marian_is_saved_as_the_files_that_it_was_read_from(
    marian: Callable[[str], Tokenizer], real_data: Path, tmp_path: Path
) -> None:
    tokenizer = pickle.loads(pickle.dumps(marian(MARIAN[1])))
    assert tokenizer.add_tokens(["[new]"]) == 1
    tokenizer.save_pretrained(tmp_path)
    for name in ("source.spm", "target.spm", "vocab.json"):
        assert (tmp_path / name).read_bytes() == (real_data / "tokenizers" / MARIAN[1] / name).read_bytes()
    back = AutoTokenizer.from_pretrained(tmp_path)
    text = "A new [new] — word"
    assert back(text, text_target=text) == tokenizer(text, text_target=text)
    assert back.convert_tokens_to_ids("[new]") == len(marian(MARIAN[1])) == len(back) - 1
    assert "[new]" in back.decode(back(text)["input_ids"])
    with pytest.raises(ArgumentError, match="cannot be added"):
        back.add_tokens(["—"])
    (tmp_path / "target.spm").unlink()
    with pytest.raises(CheckpointError, match=r"target\.spm"):
        AutoTokenizer.from_pretrained(tmp_path)


def test_calling_a_tokenizer_never_changes_its_fingerprint(marian: Callable[[str], Tokenizer]) -> None:
    tokenizer = marian(MARIAN[0])
    before = pickle.dumps(tokenizer)
    tokenizer(["a", "b c"], text_target=["d", "e"], padding=True, truncation=True, max_length=3)
    tokenizer(text_target="d")
    assert pickle.dumps(tokenizer) == before


def test_a_language_code_at_the_start_of_a_text_is_one_token_and_an_unknown_one_is_named(
    marian: Callable[[str], Tokenizer],
) -> None:
    tokenizer = marian(MARIAN[1])
    assert tokenizer.tokenize(">>por<< Hello")[0] == ">>por<<"
    with pytest.raises(ArgumentError, match=r"row 1 .*'>>prt<<'.*did you mean '>>por<<'"):
        tokenizer([">>por<< Hello", ">>prt<< Hello"])


TEXTS = ["The cat sat on the mat.", "Die Katze saß auf der Matte.", "A dog ran; der Hund lief weg!"] * 30


@pytest.mark.parametrize("kind", ["unigram", "bpe", "byte-bpe", "wordpiece"])
def test_a_vocabulary_trained_from_nothing_reads_back_the_same_here_and_there(kind: str, tmp_path: Path) -> None:
    new = AutoTokenizer.from_iterator(TEXTS, kind, vocab_size=300, special_tokens=["<sep>"], model_max_length=64)
    assert len(new) <= 300
    new.save_pretrained(tmp_path)
    rows = [*TEXTS[:3], "unseen Ünïcode ﬁne <sep>"]
    want = new(rows, padding=True)
    for other in (
        AutoTokenizer.from_pretrained(tmp_path),
        transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path),
        transformers.AutoTokenizer.from_pretrained(tmp_path),
    ):
        assert dict(other(rows, padding=True)) == dict(want)
        assert other.special_tokens_map == new.special_tokens_map
        assert other.model_max_length == 64
    assert "<sep>" in new.tokenize(rows[-1])
    ends = {"unigram": "</s>", "bpe": "</s>", "wordpiece": "[SEP]"}
    assert new.tokenize("The cat", add_special_tokens=True)[-1] == ends.get(kind, new.tokenize("The cat")[-1])
    if kind != "wordpiece":
        assert new.batch_decode(new(TEXTS[:3])["input_ids"], skip_special_tokens=True) == TEXTS[:3]


def test_a_text_ends_with_eos_where_asked() -> None:
    new = AutoTokenizer.from_iterator(TEXTS, "byte-bpe", vocab_size=300, add_eos_token=True)
    assert new("The cat")["input_ids"][-1] == new.eos_token_id != new.pad_token_id
    plain = AutoTokenizer.from_iterator(TEXTS, "bpe", vocab_size=300, add_eos_token=False)
    assert plain("The cat")["input_ids"][-1] != plain.eos_token_id


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: AutoTokenizer.from_iterator(TEXTS, "bytebpe"), "did you mean 'byte-bpe'"),
        (lambda: AutoTokenizer.from_iterator("one text"), "pass texts"),
        (lambda: AutoTokenizer.from_iterator(TEXTS, vocab_size=0), "vocab_size=0"),
        (lambda: setattr(AutoTokenizer.from_iterator(TEXTS, "bpe", 200), "src_lang", "en_XX"), "known are: none"),
    ],
)
def test_what_cannot_be_is_one_clear_line(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(UnpadError) as caught:
        call()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_gpt2_pads_once_it_has_a_pad_token(real_data: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(real_data / "tokenizers" / "gpt2")
    with pytest.raises(ArgumentError, match=r"tokenizer\.pad_token = tokenizer\.eos_token"):
        tokenizer(["a", "b c"], padding=True)
    tokenizer.pad_token = tokenizer.eos_token
    assert tokenizer(["a", "b c d"], padding=True)["input_ids"][0][1:] == [50256] * 2
    left = AutoTokenizer.from_pretrained(real_data / "tokenizers" / "gpt2", truncation_side="left", padding_side="left")
    assert left("one two three", truncation=True, max_length=1)["input_ids"] == left(" three")["input_ids"]
