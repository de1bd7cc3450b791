"""Pipelines that write give what `transformers` gives: its own text-generation pipeline, and for the tasks whose pipelines version 5 has
dropped its tokenizer, `generate` and decode, one input at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from small_writers import small_writer, texts

import unpad

PROMPTS = ["where is my order?", "ok", "The lamp", "Ünïcødé — 你好", "please help me now, the lamp is broken " * 2, ""]
KEYS = {"translation": "translation_text", "summarization": "summary_text", "text2text-generation": "generated_text"}
BEAMS = {"num_beams": 4, "length_penalty": 0.7, "no_repeat_ngram_size": 2}
OPTIONS: list[dict[str, Any]] = [
    {},
    BEAMS,
    {"num_beams": 3, "num_return_sequences": 2},
    {"repetition_penalty": 1.4, "min_new_tokens": 4},
]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def lone(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = small_writer(request.param, tmp_path_factory.mktemp("model"))
    ours = unpad.pipeline("text-generation", folder, precision="fp32", device="cpu")
    return ours, transformers.pipeline("text-generation", folder, device="cpu")


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("full", [True, False])
def test_prompts_go_on_as_in_transformers(lone: tuple[Any, Any], options: dict[str, Any], full: bool) -> None:
    ours, theirs = lone
    options = {"max_new_tokens": 9, "return_full_text": full, **options}
    right = [theirs(text, do_sample=False, **options) for text in PROMPTS]
    assert ours(PROMPTS, **options) == right
    assert [ours(text, **options) for text in PROMPTS[:2]] == right[:2]
    assert list(ours((text for text in PROMPTS), **options)) == right


def test_tensors_and_a_prefix_are_those_of_transformers(lone: tuple[Any, Any]) -> None:
    ours, theirs = lone
    for options in (
        {"return_tensors": True},
        {"prefix": "the order "},
        {"prefix": "the order ", "return_full_text": False},
    ):
        options = {"max_new_tokens": 5, **options}
        for text in PROMPTS[:4]:
            assert ours(text, **options) == theirs(text, do_sample=False, **options)


def test_stop_strings_end_a_text_where_transformers_ends_it(lone: tuple[Any, Any]) -> None:
    ours, theirs = lone
    free = ours("where is my order?", max_new_tokens=12, return_full_text=False)[0]["generated_text"]
    stop = next(c for c in free[2:] if c.isalpha())
    for name in ("stop_strings", "stop_sequence"):
        found = ours("where is my order?", max_new_tokens=12, return_full_text=False, **{name: stop})
        assert len(found[0]["generated_text"]) < len(free) and stop in found[0]["generated_text"]
    right = theirs("where is my order?", max_new_tokens=12, do_sample=False, return_full_text=False, stop_sequence=stop)
    assert found == right


def decoded(folder: str, inputs: list[str], tokenizer: Any = None, **options: Any) -> list[list[str]]:
    tokenizer = tokenizer or transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    out = []
    for text in inputs:
        ids = tokenizer(text, return_tensors="pt", truncation=True)
        ids.pop("token_type_ids", None)
        found = model.generate(**ids, do_sample=False, **options)
        out.append([tokenizer.decode(row, skip_special_tokens=True) for row in found])
    return out


@pytest.mark.parametrize("family", ["t5", "bart"])
@pytest.mark.parametrize("task", KEYS)
def test_texts_become_texts_as_in_transformers(family: str, task: str, tmp_path: Path) -> None:
    folder, inputs = small_writer(family, tmp_path), [*PROMPTS, texts()[0]]
    pipe = unpad.pipeline(task, folder, precision="fp32", device="cpu")
    for options in OPTIONS if (family, task) == ("t5", "translation") else OPTIONS[1:2]:
        right = [[{KEYS[task]: text} for text in of] for of in decoded(folder, inputs, max_new_tokens=9, **options)]
        flat = [of[0] for of in right] if len(right[0]) == 1 else right
        assert pipe(inputs, max_new_tokens=9, **options) == flat  # a list of inputs
        assert pipe(inputs[0], max_new_tokens=9, **options) == right[0]  # one input
        assert list(pipe(iter(inputs), max_new_tokens=9, **options)) == right  # a stream


def test_marian_translates_as_in_transformers(real_data: Path, tmp_path: Path) -> None:
    folder = small_writer("marian", tmp_path, str(real_data / "tokenizers" / "opus-mt-tc-big-fr-en"))
    inputs = ["Où est ma commande ?", "La lampe ne marche plus, aidez-moi.", "ok"]
    pipe = unpad.pipeline("translation_fr_to_en", folder, precision="fp32", device="cpu")
    for options in (OPTIONS[0], BEAMS):
        right = [of[0] for of in decoded(folder, inputs, pipe.tokenizer, max_new_tokens=9, **options)]
        assert [one["translation_text"] for one in pipe(inputs, max_new_tokens=9, **options)] == right


T5_TASKS = {
    "summarization": {
        "prefix": "summarize: ",
        "num_beams": 3,
        "min_length": 4,
        "max_length": 7,
        "no_repeat_ngram_size": 2,
    },
    "translation_en_to_fr": {"prefix": "translate English to French: ", "num_beams": 2, "max_length": 6},
    "translation_en_to_de": {"prefix": "translate English to German: ", "num_beams": 2, "max_length": 6},
}


def test_t5_gets_the_prefix_and_the_settings_of_its_configuration(tmp_path: Path) -> None:
    folder, text = small_writer("t5", tmp_path, task_specific_params=T5_TASKS), "the lamp is broken"
    for task, options in (
        ("summarization", {}),
        ("translation_en_to_fr", {}),
        ("translation", {"src_lang": "en", "tgt_lang": "fr"}),
    ):
        name = "translation_en_to_fr" if task == "translation" else task
        more = {k: v for k, v in T5_TASKS[name].items() if k != "prefix"}
        right = decoded(folder, [str(T5_TASKS[name]["prefix"]) + text], **more)[0]
        found = unpad.pipeline(task, folder, precision="fp32", device="cpu", **options)(text)
        assert [next(iter(one.values())) for one in found] == right
    pipe = unpad.pipeline("summarization", folder, precision="fp32", device="cpu")
    assert pipe(text, prefix="", num_beams=1, max_new_tokens=12) == [{"summary_text": t} for t in decoded(folder, [text], max_new_tokens=12, no_repeat_ngram_size=2)[0]]  # fmt: skip


def test_a_fine_tuned_model_keeps_its_own_lengths(tmp_path: Path) -> None:
    folder, text = small_writer("t5", tmp_path, task_specific_params=T5_TASKS), "the lamp is broken"
    settings = unpad.GenerationConfig.from_pretrained(folder)
    settings.max_new_tokens = 3
    settings.save_pretrained(folder)
    pipe = unpad.pipeline("summarization", folder, precision="fp32", device="cpu", num_beams=1)
    assert len(pipe(text, return_tensors=True)[0]["summary_token_ids"]) == 4  # the start token and three


def test_precision_of_the_pipeline_reaches_generation(tmp_path: Path) -> None:
    pipe = unpad.pipeline("text2text-generation", small_writer("t5", tmp_path), precision="bf16", device="cpu")
    seen = []
    pipe.model.transformer.encoder.blocks[0].qkv.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    pipe("ok", max_new_tokens=2)
    assert set(seen) == {torch.bfloat16}
