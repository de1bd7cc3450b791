"""Text generation, as users meet it: a corpus as rows, words that weigh more, prompts of any kind, seeds, and mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st
from small_writers import small_writer, texts

import unpad
from unpad import ArgumentError, DataError
from unpad.tasks import task
from unpad.tasks.text_generation import TASK

DOCUMENTS = ["the lamp is broken and I want my money back", "ok, thank you", "where is my order? it was sent in march"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return unpad.AutoTokenizer.from_iterator(texts(), kind="byte-bpe", vocab_size=400, model_max_length=64)


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return unpad.pipeline(
        "text-generation", small_writer("gpt2", tmp_path_factory.mktemp("model")), precision="fp32", device="cpu"
    )


def prepared(tokenizer: Any, documents: list[str] = DOCUMENTS, **settings: Any) -> Any:
    raw = DatasetDict(
        {
            name: Dataset.from_dict({"path": ["x"] * len(documents), "content": documents})
            for name in ("train", "validation")
        }
    )
    return TASK.prepare(raw, tokenizer, TASK.columns(raw, labelled=True), **settings)


# ---- data ----


@settings(max_examples=20, deadline=None)
@given(size=st.integers(9, 40), documents=st.lists(st.sampled_from(texts()), min_size=1, max_size=8))
def test_rows_hold_one_document_each_with_its_end(tokenizer: Any, size: int, documents: list[str]) -> None:
    rows = prepared(tokenizer, documents, block_size=size).data["train"]["input_ids"][:]
    wanted = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in documents]
    cut = [ids[i : i + size] for ids in wanted for i in range(0, len(ids), size)]
    assert [row for row in cut if len(row) >= 8 or row in rows] == rows  # short tails are left out
    joined = prepared(tokenizer, documents, block_size=size, across=True, keep_last=True).data["train"]["input_ids"][:]
    flat = [i for ids in wanted for i in ids]
    assert [i for row in joined for i in row] == flat[: sum(map(len, joined))]
    assert all(len(row) == size for row in joined[:-1])


def test_keywords_weigh_more_in_training_only(tokenizer: Any, caplog: Any) -> None:
    found = prepared(tokenizer, keywords=" order,is,antidisestablishment", keyword_weight=2.5).data
    pieces = [tokenizer(text)["input_ids"] for text in ("is", " is", "order", " order")]
    word = {ids[0] for ids in pieces if len(ids) == 1}
    train = found["train"]
    assert train["weights"][:] == [[3.5 if i in word else 1.0 for i in row] for row in train["input_ids"][:]]
    assert any(3.5 in row for row in train["weights"][:])
    assert "weights" not in found["validation"].column_names  # a perplexity weighs all words alike
    assert "keywords that are not one token weigh no more than others: order, antidisestablishment" in caplog.text
    with pytest.raises(ArgumentError, match="none of the keywords antidisestablishment is one token"):
        prepared(tokenizer, keywords=["antidisestablishment"])
    with pytest.raises(ArgumentError, match=r"keyword_weight=0 must be a number above 0"):
        prepared(tokenizer, keywords=["is"], keyword_weight=0)


def test_weights_and_tokens_reach_the_batch(tokenizer: Any) -> None:
    rows = prepared(tokenizer, keywords=["is"]).data["train"]
    batch = TASK.collator(tokenizer).pack([rows[i] for i in range(len(rows))])
    assert batch.weights is not None and batch.labels is not None
    assert batch.weights.shape == batch.input_ids.shape and (batch.labels == batch.input_ids).all()


@pytest.mark.parametrize("size", [1, 65, True, 8.0])
def test_a_block_that_cannot_be_is_refused(tokenizer: Any, size: Any) -> None:
    with pytest.raises(ArgumentError, match=r"block_size=.* is outside 2..64"):
        prepared(tokenizer, block_size=size)


def test_labels_and_pairs_are_refused(tokenizer: Any) -> None:
    raw = Dataset.from_dict({"text": ["a"], "other": ["b"]})
    for more in ({"label": "other"}, {"text_pair": "other"}):
        with pytest.raises(
            ArgumentError, match=r"text-generation learns from texts alone; leave (label|text_pair)='other' out"
        ):
            TASK.columns(raw, **more)
    with pytest.raises(DataError, match="row 1 of 'train' has no text in 'text'"):
        TASK.prepare(Dataset.from_dict({"text": ["a", None]}), tokenizer, TASK.columns(raw, text="text"))
    assert task("clm") is TASK and TASK.metrics(None) is None  # type: ignore[arg-type, func-returns-value]


# ---- prompts ----


def test_a_prompt_longer_than_the_context_loses_its_beginning_and_this_is_said(pipe: Any, caplog: Any) -> None:
    long = " ".join(texts()[:20])
    ids = pipe.tokenizer(long)["input_ids"]
    found = pipe(long, max_new_tokens=5, return_tensors=True)[0]["generated_token_ids"]
    assert len(ids) > 64 and found[:63] == ids[-63:] and len(found) == 64
    assert "1 of 1 inputs (100.0%) were longer than 63 tokens and were cut" in caplog.text
    assert pipe.tokenizer.truncation_side == "right"
    assert pipe(long, max_new_tokens=5)[0]["generated_text"].startswith(long)
    with pytest.raises(DataError, match="the model takes 63; leave truncation on"):
        pipe(long, truncation=False)


def test_a_seed_gives_the_same_text_again_and_another_seed_another(pipe: Any) -> None:
    options = {"do_sample": True, "temperature": 1.5, "max_new_tokens": 12, "return_full_text": False}
    one, again, other = (pipe(DOCUMENTS, seed=seed, **options) for seed in (1, 1, 2))
    assert one == again != other
    assert pipe(DOCUMENTS[:1], seed=1, **options) == one[:1]  # whatever it is answered together with


def test_several_answers_differ_and_stand_in_one_list_per_prompt(pipe: Any) -> None:
    options = {"do_sample": True, "temperature": 2.0, "max_new_tokens": 12, "num_return_sequences": 3, "seed": 3}
    found = pipe(DOCUMENTS[:2], **options)
    assert [len(of) for of in found] == [3, 3] and len({one["generated_text"] for one in found[0]}) == 3
    assert pipe(DOCUMENTS[0], **options) == found[0]


@pytest.mark.parametrize(
    "options", [{"seed": 5}, {}, {"seed": 5, "num_return_sequences": 2}, {"seed": 5, "num_beams": 2}]
)
def test_a_stream_draws_for_each_row_what_a_list_of_the_same_rows_does(
    pipe: Any, monkeypatch: Any, options: dict[str, Any]
) -> None:
    """However many windows it is read in; equal prompts still get different texts."""
    monkeypatch.setattr("unpad.pipelines._pipeline.WINDOW", 2)
    options, found = {**options, "do_sample": True, "temperature": 2.0, "max_new_tokens": 12}, []
    for inputs in (["ok"] * 6, iter(["ok"] * 6)):
        torch.manual_seed(3)
        found.append(list(pipe(inputs, **options)))
    assert found[0] == found[1] and len({str(of) for of in found[0]}) == 6


def test_the_model_may_be_in_training(pipe: Any) -> None:
    right = pipe("ok", max_new_tokens=6)
    pipe.model.train()
    try:
        assert pipe("ok", max_new_tokens=6) == right and pipe.model.training
    finally:
        pipe.model.eval()


def test_settings_in_the_configuration_for_the_task_hold_until_a_caller_says_otherwise(tmp_path: Path) -> None:
    params = {"text-generation": {"max_length": 9, "no_repeat_ngram_size": 1}}
    folder = small_writer("gpt2", tmp_path, task_specific_params=params)
    pipe = unpad.pipeline("text-generation", folder, precision="fp32", device="cpu", return_tensors=True)
    found = pipe("ok")[0]["generated_token_ids"]
    assert len(found) == 9 and len(set(found)) == 9
    assert len(pipe("ok", max_new_tokens=20)[0]["generated_token_ids"]) == 20 + len(pipe.tokenizer("ok")["input_ids"])


@pytest.mark.parametrize(("options", "error"), [
    ({"return_full_text": True, "return_text": True}, "return_full_text and return_text exclude each other"),
    ({"return_full_text": False, "return_tensors": True}, "return_full_text and return_tensors exclude each other"),
    ({"return_full_text": "yes"}, "return_full_text='yes' must be True or False"),
    ({"temprature": 0.7}, "no option 'temprature'; did you mean 'temperature'"),
    ({"num_return_sequences": 2}, "num_return_sequences=2 without beams or sampling"),
    ({"do_sample": True, "temperature": 0}, "temperature=0 must be"),
    ({"src_lang": "en"}, "no option 'src_lang'"),
])  # fmt: skip
def test_bad_options_are_one_clear_line(pipe: Any, options: dict[str, Any], error: str) -> None:
    with pytest.raises(ArgumentError, match=error) as found:
        pipe("ok", **options)
    assert "\n" not in str(found.value)


def test_what_is_no_prompt_is_named(pipe: Any) -> None:
    with pytest.raises(DataError, match=r"input 1 is \{'role'.* \(dict\), not a text"):
        pipe(["ok", {"role": "user", "content": "hi"}])
    with pytest.raises(ArgumentError, match=r"max_length=2 leaves nothing to generate"):
        pipe(DOCUMENTS[0], max_length=2)
    assert pipe([]) == []


def test_the_task_is_told_by_the_class_that_the_model_was_saved_as(pipe: Any) -> None:
    assert unpad.pipeline(model=pipe.model.name_or_path, device="cpu").task == "text-generation"
    with pytest.raises(ArgumentError, match="gpt2 models have no such head"):
        unpad.pipeline("summarization", pipe.model.name_or_path)


def test_examples_show_how_model_and_text_go_on(pipe: Any, tokenizer: Any) -> None:
    rows = [{"content": text} for text in [*texts()[:3], "x"]]
    raw = Dataset.from_dict({"content": DOCUMENTS})
    found = TASK.examples(pipe, rows, TASK.columns(raw), prepared(tokenizer))
    for row, example in zip(rows[:3], found, strict=False):
        assert row["content"].startswith(example.texts[0] + str(example.truth)) and example.answer


def test_keys_that_only_the_file_knows_may_be_given_and_change_nothing(tmp_path: Path) -> None:
    facts = {"model_type": "gpt2", "n_embd": 32, "n_head": 2, "n_layer": 1, "n_ctx": 1024, "add_cross_attention": False}
    (tmp_path / "config.json").write_text(json.dumps(facts))
    config = unpad.AutoConfig.from_pretrained(str(tmp_path), vocab_size=300, n_ctx=128)
    assert config.vocab_size == 300 and config.to_dict()["n_ctx"] == 128
    for wrong in ({"n_cxt": 128}, {"add_cross_attention": True}):
        with pytest.raises(ArgumentError):
            unpad.AutoConfig.from_pretrained(str(tmp_path), **wrong)


def test_a_model_with_a_context_of_precision_writes_in_it() -> None:
    """`autocast` of a model is the context that an engine runs it in; generation calls its parts and would miss hooks on the whole."""
    config = unpad.AutoConfig.for_model(
        "gpt2", vocab_size=20, n_embd=8, n_layer=1, n_head=1, bos_token_id=1, eos_token_id=1
    )
    model, seen = unpad.AutoModelForCausalLM.from_config(config), []
    model.transformer.blocks[0].up.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    for cached in (True, False):
        model.generate(torch.tensor([[3, 4]]), max_new_tokens=2, use_cache=cached, pad_token_id=0)
    assert set(seen) == {torch.float32}
    seen.clear()
    model.autocast = lambda: torch.autocast("cpu", torch.bfloat16)
    for cached in (True, False):
        model.generate(torch.tensor([[3, 4]]), max_new_tokens=2, use_cache=cached, pad_token_id=0)
    assert set(seen) == {torch.bfloat16}
