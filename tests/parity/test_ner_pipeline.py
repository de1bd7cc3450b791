"""`pipeline("ner")` answers what that of `transformers` answers, reads texts of any length, and never splits a word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unpad
from unpad.tasks import Reader

NAMES = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "MISC"]
WORDWISE = ("first", "average", "max")
TEXTS = [
    "My name is Sylvain and I work at Hugging Face in Brooklyn.", "", " ", "U.N. official Jean-Baptiste O'Neil (52) left Nov2018!",
    "Ünïcødé — 你好, мир 🙂 \u2603 [UNK] [SEP]", "unbelievably antidisestablishmentarian Groenlinks",
]  # fmt: skip


def saved(folder: Path, tokenizer: Any, names: list[str] = NAMES, seed: int = 0) -> str:
    """A random small model beside a tokenizer, as `transformers` saves them."""
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=512, initializer_range=0.4, id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)},
    )  # fmt: skip
    transformers.BertForTokenClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm, model_max_length=512)
    return saved(tmp_path_factory.mktemp("ner"), tokenizer)


@pytest.fixture(scope="module")
def ours(folder: str) -> Any:
    return unpad.pipeline("ner", model=folder, precision="fp32", device="cpu")


@pytest.fixture(scope="module")
def theirs(folder: str) -> Any:
    return transformers.pipeline("token-classification", model=folder, device="cpu")


def same(found: Any, expected: Any) -> None:
    """The same shapes, keys, words and places; scores within 1e-5."""
    assert type(found) is type(expected)
    if isinstance(found, list):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            same(a, b)
        return
    assert list(found) == list(expected)
    assert {k: v for k, v in found.items() if k != "score"} == {k: v for k, v in expected.items() if k != "score"}
    assert type(found["score"]) is float
    assert found["score"] == pytest.approx(float(expected["score"]), abs=1e-5)


@pytest.fixture(scope="module")
def real_texts(real_data: Path) -> list[str]:
    """Paragraphs and reviews that the model takes whole."""
    paragraphs = unpad.load_dataset(str(real_data / "xquad" / "en.parquet"))["train"]["context"]
    reviews = unpad.load_dataset(str(real_data / "imdb"), split="test[:40]")["text"]
    return [text for part in (list(dict.fromkeys(paragraphs)), reviews) for text in part if len(text) < 1200][::12]


@pytest.mark.parametrize("strategy", ["none", "simple", *WORDWISE])
def test_answers_equal_those_of_transformers(ours: Any, theirs: Any, strategy: str) -> None:
    for ignored in (["O"], [], ["O", "PER", "B-ORG"]):
        options: dict[str, Any] = {"aggregation_strategy": strategy, "ignore_labels": ignored}
        same(ours(TEXTS, **options), theirs(TEXTS, **options))
        same(ours(TEXTS[0], **options), theirs(TEXTS[0], **options))
        same(ours(TEXTS[:1], **options), theirs(TEXTS[:1], **options))


@pytest.mark.parametrize("strategy", ["none", "simple", *WORDWISE])
def test_answers_to_real_texts_equal_those_of_transformers(
    real_texts: list[str], ours: Any, theirs: Any, strategy: str
) -> None:
    assert len(real_texts) > 15
    expected = theirs(list(real_texts), aggregation_strategy=strategy)
    same(ours(real_texts, aggregation_strategy=strategy), expected)


@pytest.mark.parametrize("strategy", ["none", "simple"])
def test_words_that_were_split_before_are_answered_as_in_transformers(ours: Any, theirs: Any, strategy: str) -> None:
    words = [text.split() for text in TEXTS if text.split()]
    expected = theirs(words, aggregation_strategy=strategy, is_split_into_words=True)
    same(ours(words, aggregation_strategy=strategy, is_split_into_words=True), expected)
    same(ours([{"tokens": row} for row in words], aggregation_strategy=strategy), expected)
    same(ours({"tokens": words[1]}, aggregation_strategy=strategy), expected[1])
    alone = ours(words[0], aggregation_strategy=strategy, is_split_into_words=True)
    same(alone, theirs(words[0], aggregation_strategy=strategy, is_split_into_words=True))


def test_options_of_the_pipeline_hold_for_its_calls(folder: str, theirs: Any) -> None:
    pipe = unpad.pipeline(
        "token-classification", model=folder, precision="fp32", aggregation_strategy="simple", ignore_labels=[]
    )
    same(pipe(TEXTS), theirs(TEXTS, aggregation_strategy="simple", ignore_labels=[]))
    same(pipe(TEXTS, aggregation_strategy="none"), theirs(TEXTS, ignore_labels=[]))
    same(list(pipe(iter(TEXTS))), pipe(TEXTS))
    rows = unpad.load_dataset({"tokens": [t.split() or ["x"] for t in TEXTS], "id": list(range(len(TEXTS)))})
    same(list(pipe(rows["train"])), pipe([{"tokens": row} for row in rows["train"]["tokens"]]))


# ---- words


BYTES, SPACED, PIECES = "roberta-base", "gpt2", "barthez"
"""Real vocabularies: byte-level, of which the second counts spaces to the tokens after them; and SentencePiece, whose words reach from space to space."""


@pytest.fixture(scope="module", params=["minilm", BYTES, SPACED, PIECES])
def any_pipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "minilm":
        return request.getfixturevalue("ours")
    source = request.getfixturevalue("real_data") / "tokenizers" / request.param
    tokenizer = unpad.AutoTokenizer.from_pretrained(str(source), add_prefix_space=True, model_max_length=512)
    return unpad.pipeline("ner", model=saved(tmp_path_factory.mktemp(request.param), tokenizer), precision="fp32")


WORD = re.compile(r"[A-Za-z0-9]+")
letters = st.text("abcXYZ019", min_size=1, max_size=12)
piece = st.one_of(letters, st.sampled_from(["Sylvain", "Groenlinks", "Schiphol.", "(Rome)", "don't", "jean-baptiste", "5.975,7", "--", "naïve"]))  # fmt: skip
text_of_words = st.lists(piece, min_size=1, max_size=12).map(" ".join)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=text_of_words, strategy=st.sampled_from(WORDWISE))
def test_a_word_is_never_split_between_entities(any_pipe: Any, text: str, strategy: str) -> None:
    """Every word lies in one entity whole, entities are the text that they name, and they cover it all."""
    found = any_pipe(text, aggregation_strategy=strategy, ignore_labels=[])
    owner: dict[int, int] = {}
    for number, entity in enumerate(found):
        shown = text[entity["start"] : entity["end"]]
        assert shown == shown.strip() != ""
        for place in range(entity["start"], entity["end"]):
            assert owner.setdefault(place, number) == number
    assert set(owner) >= {i for i, c in enumerate(text) if c != " "}
    for match in WORD.finditer(text):
        assert len({owner[i] for i in range(*match.span())}) == 1, match


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(piece, min_size=1, max_size=12), strategy=st.sampled_from(WORDWISE))
def test_a_given_word_is_never_split_whatever_it_holds(any_pipe: Any, words: list[str], strategy: str) -> None:
    text, ends = " ".join(words), np.cumsum([len(w) + 1 for w in words]) - 1
    edges = {int(e) for e in ends} | {int(e) - len(w) for e, w in zip(ends, words, strict=True)}
    for entity in any_pipe({"tokens": words}, aggregation_strategy=strategy, ignore_labels=[]):
        assert {entity["start"], entity["end"]} <= edges, (text, entity)


def test_punctuation_around_a_word_is_no_part_of_it_in_any_vocabulary(any_pipe: Any) -> None:
    text = "Groenlinks praat (over) Schiphol."
    features = any_pipe._task.encode([text], Reader(any_pipe.tokenizer, 512), {})
    tokens = features.notes
    starts = np.flatnonzero(tokens.word_starts())
    words = [text[tokens.spans[a, 0] : tokens.spans[b - 1, 1]].strip() for a, b in zip(starts, [*starts[1:], len(tokens.at)], strict=True)]  # fmt: skip
    assert words == ["Groenlinks", "praat", "(", "over", ")", "Schiphol", "."]


# ---- long texts


def by_hand(pipe: Any, text: str, limit: int, stride: int) -> list[tuple[int, int, str, float]]:
    """Every token of a text from the window in which it stands most central, each window computed alone by `transformers`."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(pipe.model.name_or_path)
    model = transformers.AutoModelForTokenClassification.from_pretrained(pipe.model.name_or_path).eval()
    whole = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, room = whole["input_ids"], limit - 2
    best: dict[int, tuple[int, int, float]] = {}
    begin = 0
    while True:
        window = ids[begin : begin + room]
        full = [tokenizer.cls_token_id, *window, tokenizer.sep_token_id]
        with torch.no_grad():
            chances = model(torch.tensor([full])).logits[0, 1:-1].softmax(-1)
        for place, row in enumerate(chances):
            edge = min(place, len(window) - 1 - place)
            if begin + place not in best or edge > best[begin + place][0]:
                best[begin + place] = (edge, int(row.argmax()), float(row.max()))
        if begin + room >= len(ids):
            break
        begin += room - stride
    return [(*whole["offset_mapping"][i], NAMES[tag], score) for i, (_, tag, score) in sorted(best.items())]


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 60), limit=st.integers(6, 24), share=st.floats(0, 0.95), seed=st.integers(0, 99))
def test_each_token_of_a_long_text_is_answered_where_it_stands_most_central(
    ours: Any, count: int, limit: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    text = " ".join(rng.choice(["Sylvain", "works", "in", "unbelievably", "(old)", "Brooklyn."], size=count))
    stride = int(share * (limit - 3))
    found, other = ours([text, "short"], max_length=limit, stride=stride, ignore_labels=[])
    expected = by_hand(ours, text, limit, stride)
    assert [(e["start"], e["end"], e["entity"]) for e in found] == [e[:3] for e in expected]
    np.testing.assert_allclose([e["score"] for e in found], [e[3] for e in expected], atol=1e-5)
    assert [e["index"] for e in found] == list(range(1, len(found) + 1))
    same(other, ours("short", ignore_labels=[]))


def test_windows_are_the_same_to_whichever_side_they_are_cut(folder: str) -> None:
    """With a left side the last window is full and the first one short; every token is still answered, in order."""
    tokenizer = unpad.AutoTokenizer.from_pretrained(folder, truncation_side="left")
    pipe = unpad.pipeline("ner", model=folder, tokenizer=tokenizer, precision="fp32")
    text = "one two three four five six seven eight nine ten eleven twelve"
    found = pipe(text, max_length=7, stride=2, ignore_labels=[])
    assert [text[e["start"] : e["end"]] for e in found] == text.split()
    assert [e["index"] for e in found] == list(range(1, 13))


def test_nothing_of_a_long_review_is_lost(real_data: Path, ours: Any, caplog: pytest.LogCaptureFixture) -> None:
    text = " ".join(unpad.load_dataset(str(real_data / "imdb"), split="test[:8]")["text"])
    words = text.split()
    assert len(words) > 3 * 512
    found = ours(text, aggregation_strategy="first", ignore_labels=[])
    assert found[-1]["end"] == len(text.rstrip())
    covered = np.zeros(len(text), bool)
    for entity in found:
        covered[entity["start"] : entity["end"]] = True
    assert all(covered[i] for i, c in enumerate(text) if not c.isspace())
    apart = ours({"tokens": words}, aggregation_strategy="first", ignore_labels=[])
    assert apart[-1]["end"] == len(" ".join(words))
    assert not any("cut" in record.getMessage() for record in caplog.records)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_=st.lists(st.one_of(text_of_words, st.lists(piece, max_size=5).map(lambda w: {"tokens": w})), max_size=8))
def test_inputs_in_one_list_do_not_change_each_others_answers(ours: Any, given_: list[Any]) -> None:
    options = {"max_length": 12, "aggregation_strategy": "simple"}
    for found, one in zip(ours(given_, **options), given_, strict=True):
        same(found, ours(one, **options))
