"""Token classification: labels of subwords, figures of entities, words of texts, and the command line from words to answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unpad
from unpad.batch import IGNORED_LABEL
from unpad.cli.__main__ import main
from unpad.tasks import task as find_task
from unpad.tasks._tags import TagFigures, per_word, read_tags, read_words

NER = find_task("ner")
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "NN"]


@pytest.fixture(scope="module")
def tokenizer(minilm: str) -> unpad.Tokenizer:
    return unpad.AutoTokenizer.from_pretrained(minilm)


def data(words: list[list[str]], tags: list[list[Any]], names: list[str] | None = TAGS) -> Any:
    """A data set with class labels where there are names."""
    from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

    kind = ClassLabel(names=names) if names else Value("string" if isinstance(tags[0][0], str) else "int64")
    features = Features({"tokens": List(Value("string")), "ner_tags": List(kind)})
    return DatasetDict({"train": Dataset.from_dict({"tokens": words, "ner_tags": tags}, features=features)})


def prepared(raw: Any, tokenizer: Any, **options: Any) -> Any:
    return NER.prepare(raw, tokenizer, NER.columns(raw, labelled=True), **options)


def aligned(tags: list[int], word_ids: list[int | None], every: bool) -> list[int]:
    """The plain way: token by token."""
    out, before = [], None
    for word in word_ids:
        if word is None:
            out.append(IGNORED_LABEL)
        elif word != before:
            out.append(tags[word])
        else:
            name = TAGS[tags[word]]
            out.append(TAGS.index(name.replace("B-", "I-")) if every else IGNORED_LABEL)
        before = word
    return out


word = st.sampled_from(["EU", "unbelievably", "Straße", "U.N.", "你好", "a", "\u200b", "-", "antidisestablishment"])
sentence = st.lists(st.tuples(word, st.integers(0, len(TAGS) - 1)), min_size=1, max_size=12)


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(sentence, min_size=1, max_size=6), every=st.booleans(), longest=st.integers(3, 40))
def test_a_word_gives_its_tag_to_its_first_token_and_to_later_ones_only_when_asked(
    tokenizer: unpad.Tokenizer, rows: list[list[tuple[str, int]]], every: bool, longest: int
) -> None:
    words, tags = [[w for w, _ in row] for row in rows], [[t for _, t in row] for row in rows]
    found = prepared(data(words, tags), tokenizer, label_all_tokens=every, max_length=longest)
    encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=longest)
    assert found.data["train"]["input_ids"] == encoded["input_ids"]
    expected = [aligned(row, encoded.word_ids(i), every) for i, row in enumerate(tags)]
    assert found.data["train"]["labels"] == expected
    assert found.label_names == TAGS and found.num_labels == len(TAGS)


def test_the_labels_of_the_course_come_out(minilm: str) -> None:
    """The sentence that the Hugging Face course aligns by hand, with every piece labelled."""
    tokenizer = unpad.AutoTokenizer.from_pretrained(minilm)
    names = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
    raw = data([["EU", "rejects", "Sylvanerowitz", "."]], [[3, 0, 1, 0]], names)
    pieces = len(tokenizer("Sylvanerowitz")["input_ids"]) - 2
    assert pieces > 1
    found = prepared(raw, tokenizer, label_all_tokens=True).data["train"]["labels"][0]
    assert found == [-100, 3, 0, 1, *[2] * (pieces - 1), 0, -100]


@settings(deadline=None, max_examples=30)
@given(order=st.permutations(["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "DATE"]))
def test_text_tags_are_numbered_alike_in_any_order_of_the_rows(tokenizer: unpad.Tokenizer, order: list[str]) -> None:
    raw = data([["a"] * len(order)], [order], None)
    found = prepared(raw, tokenizer)
    assert found.label_names == ["O", "DATE", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert [found.label_names[i] for i in found.data["train"]["labels"][0][1:-1]] == order


def test_tags_are_matched_by_name_with_those_of_a_trained_model(tokenizer: unpad.Tokenizer) -> None:
    given_names = ["I-LOC", "B-LOC", "O"]
    for raw in (data([["a", "b"]], [[1, 0]], ["O", "B-LOC"]), data([["a", "b"]], [["B-LOC", "O"]], None)):
        found = prepared(raw, tokenizer, label_names=given_names)
        assert found.data["train"]["labels"] == [[-100, 1, 2, -100]]
        assert found.label_names == given_names


def test_a_word_may_be_left_unlabelled_and_a_split_without_tags_is_prepared(tokenizer: unpad.Tokenizer) -> None:
    raw = data([["a", "unbelievably"]], [[-100, -100]], None)
    raw["train"] = raw["train"].map(lambda row: {"ner_tags": [1, -100]})
    raw["test"] = raw["train"].remove_columns("ner_tags")
    found = prepared(raw, tokenizer, label_all_tokens=True)
    labels = found.data["train"]["labels"][0]
    assert labels[1] == 1 and set(labels[2:]) == {-100}
    assert found.data["test"].column_names == ["input_ids"]
    assert (found.label_names, found.num_labels) == (None, 2)


def test_what_is_cut_or_has_no_token_is_said(tokenizer: unpad.Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    def said(words: list[str], **options: Any) -> str:
        caplog.clear()
        prepared(data([words], [[0] * len(words)]), tokenizer, **options)
        return " ".join(r.getMessage() for r in caplog.records)

    assert "1 of 1 texts were truncated; 90.0%" in said(["a"] * 100, max_length=12)
    assert "2 words have no tokens" in said(["a", "\u200b", "", "b"])
    assert "no tokens" not in said(["a", "b"]) and "truncated" not in said(["a", "b"])


def test_columns_are_found_by_name_and_others_are_named(minilm: str) -> None:
    from datasets import Dataset

    def found(*names: str, **options: Any) -> tuple[Any, ...]:
        columns = NER.columns(Dataset.from_dict({name: [["x"]] for name in names}), **options)
        return columns.text, columns.label

    assert found("id", "tokens", "pos_tags", "chunk_tags", "ner_tags") == ("tokens", "ner_tags")
    assert found("words", "labels") == ("words", "labels")
    assert found("words", "pos_tags", "x", label="x") == ("words", "x")
    assert found("text", labelled=False) == ("text", None)
    assert found("text", "tokens", "ner_tags", labelled=False) == ("tokens", None)


# ---- figures


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), batches=st.integers(1, 3), pos=st.booleans(), bilou=st.booleans())
def test_figures_are_those_of_the_metrics_over_labelled_tokens_in_any_batches(
    seed: int, batches: int, pos: bool, bilou: bool
) -> None:
    rng = np.random.default_rng(seed)
    names = ["DT", "NN", "VB"] if pos else ["O", *(f"{p}-{t}" for t in ("PER", "LOC") for p in ("BILU" if bilou else "BI"))]  # fmt: skip
    judge = TagFigures(names)
    found, true = [], []
    for _ in range(batches):
        rows, longest = int(rng.integers(1, 5)), int(rng.integers(2, 9))
        logits = torch.from_numpy(rng.normal(size=(rows, longest, len(names))))
        labels = rng.integers(0, len(names), size=(rows, longest))
        labels[rng.random(labels.shape) < 0.3] = IGNORED_LABEL
        labels[0, 0] = 1
        judge.add_batch(predictions=judge.reduce(logits).numpy(), references=labels)
        for p, r in zip(logits.argmax(-1).numpy(), labels, strict=True):
            found.append([names[i] for i, t in zip(p, r, strict=True) if t >= 0])
            true.append([names[t] for t in r if t >= 0])
    figures = judge.compute()
    if pos:
        flat = [names.index(tag) for row in found for tag in row], [names.index(tag) for row in true for tag in row]  # fmt: skip
        expected = {
            "accuracy": float(np.mean(np.array(flat[0]) == np.array(flat[1]))),
            "f1_macro": unpad.load_metric("f1").compute(predictions=flat[0], references=flat[1], average="macro")["f1"],
        }
    else:
        rules = {"mode": "strict", "scheme": "BILOU"} if bilou else {}
        whole = unpad.load_metric("seqeval").compute(predictions=found, references=true, zero_division=0, **rules)
        expected = {name: whole[f"overall_{name}"] for name in ("precision", "recall", "f1", "accuracy")}
        expected |= {f"f1_{kind}": whole[kind]["f1"] for kind in ("LOC", "PER") if kind in whole}
    assert figures == pytest.approx(expected)
    assert set(figures) <= {part.key for part in judge.parts}, "the Trainer knows every figure beforehand"


@pytest.mark.parametrize("strategy", ["first", "average", "max"])
@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_a_word_has_the_chances_of_its_tokens(strategy: str, sizes: list[int], seed: int) -> None:
    chances = np.random.default_rng(seed).random((sum(sizes), 3))
    ends = np.cumsum(sizes)
    found = per_word(chances, ends - sizes, strategy)
    for row, part in zip(found, np.split(chances, ends[:-1]), strict=True):
        sure = max(part, key=lambda p: p.max())
        np.testing.assert_allclose(row, {"first": part[0], "average": part.mean(0), "max": sure}[strategy])


# ---- data with names beside it


def test_a_folder_may_name_the_numbers_of_its_tags(tmp_path: Path, tokenizer: unpad.Tokenizer) -> None:
    row = {"tokens": ["EU", "rejects"], "ner_tags": [1, 0], "n": 1}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "labels.json").write_text(json.dumps({"ner_tags": ["O", "B-ORG"], "missing": ["x"]}))
    raw = unpad.load_dataset(str(tmp_path))
    assert raw["train"].features["ner_tags"].feature.names == ["O", "B-ORG"]
    assert raw["train"][0] == row
    assert prepared(raw, tokenizer).label_names == ["O", "B-ORG"]


def test_conll2003_has_its_names_and_entities(real_data: Path) -> None:
    raw = unpad.load_dataset(str(real_data / "conll2003"), split="train[:50]")
    words = {"train": read_words(raw, "tokens", "train")}
    tags, names = read_tags({"train": raw}, words, "ner_tags", None)
    assert names is not None
    assert [names[i] for i in tags["train"][:9]] == ["B-ORG", "O", "B-MISC", "O", "O", "O", "B-MISC", "O", "O"]  # fmt: skip


def test_the_entities_of_helpdesk_are_a_data_set_of_their_own() -> None:
    raw = unpad.load_dataset("helpdesk/entities")
    assert list(raw["train"].features) == ["id", "tokens", "ner_tags"]
    assert raw["test"][:5] == unpad.load_dataset("helpdesk", split="test").select_columns(["id", "tokens", "ner_tags"])[:5]  # fmt: skip


# ---- the command line


@pytest.fixture(scope="module")
def tiny(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random small BERT with the real tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = unpad.AutoTokenizer.from_pretrained(minilm)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = unpad.BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=64
    )  # fmt: skip
    unpad.BertModel(config).save_pretrained(folder)
    return str(folder)


def test_the_command_line_trains_judges_and_predicts(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    words = ["--data", "helpdesk/entities", "--train_split", "train[:200]", "--eval_split", "validation[:40]"]
    fixed = ["--model", tiny, "--learning_rate", "2e-2", "--num_train_epochs", "3", "--draw_curves", "false", "--disable_tqdm"]  # fmt: skip
    assert main(["train", "ner", *words, *fixed, "--output_dir", run, "--metric_for_best_model", "f1", "--load_best_model_at_end"]) == 0  # fmt: skip
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("precision", "recall", "f1", "accuracy", "f1_PRODUCT", "truth:"))
    records = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    best = max(r["eval_f1"] for r in records if "eval_f1" in r)
    assert best > 0.2, "something was learned"

    assert main(["evaluate", "--model", run]) == 0
    assert json.loads((Path(run) / "evaluation.json").read_text())["metrics"]["f1"] == pytest.approx(best)
    capsys.readouterr()

    assert main(["predict", "--model", run, "--data", "helpdesk/entities", "--split", "test[:6]"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = unpad.load_dataset("helpdesk/entities", split="test[:6]")
    assert [line["text"] for line in lines] == rows["tokens"][:6]
    assert any(line["answers"] for line in lines)
    for line in lines:
        for one in line["answers"]:
            whole = " ".join(line["text"])
            assert whole[one["start"] : one["end"]].lower().replace(" ", "") == one["word"].replace(" ", "")
    assert main(["predict", "--model", run, "--text", "Ask Maria Rossi in Lisbon."]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"text", "answers"}


def test_byte_level_models_are_given_words_with_spaces(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = real_data / "tokenizers" / "roberta-base"
    tokenizer = unpad.AutoTokenizer.from_pretrained(str(source))
    tokenizer.save_pretrained(tmp_path / "model")
    config = unpad.BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, max_position_embeddings=40
    )  # fmt: skip
    unpad.BertModel(config).save_pretrained(tmp_path / "model")
    run = str(tmp_path / "run")
    words = ["--data", "helpdesk/entities", "--train_split", "train[:8]", "--eval_split", "test[:4]", "--max_length", "40"]  # fmt: skip
    fixed = ["--model", str(tmp_path / "model"), "--max_steps", "1", "--draw_curves", "false", "--disable_tqdm"]
    assert main(["train", "token-classification", *words, *fixed, "--output_dir", run]) == 0, capsys.readouterr().err
    assert main(["evaluate", "--model", run]) == 0
    kept = unpad.AutoTokenizer.from_pretrained(run)
    assert kept(["EU", "rejects"], is_split_into_words=True)["input_ids"] == kept(" EU rejects")["input_ids"]
