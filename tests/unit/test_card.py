"""Model cards: true, readable by the Hub's own library, safe against whatever people call things, never over a person's text."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import EvalResult, ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from run_tiny import rows, trainer

import unpad
from unpad.checkpoint.card import CardFacts, DataFacts, addressed, line, model_card, model_facts, replaceable
from unpad.tasks import TASKS, task

FACTS = CardFacts(
    name="desk", load="you/desk", head="sequence-classification", class_name="BertForSequenceClassification", model_type="bert",
    parameters=1234, longest=32, labels=["a", "b"], base="x/y", base_id="x/y", language=["en"], license="mit", tags=["mine"],
    datasets=["x/tickets"], train=DataFacts("x/tickets", "x/tickets", "small", "train", 100, 900, 30),
    judged={"eval": DataFacts("x/tickets", "x/tickets", "small", "validation", 20), "test": DataFacts(split="test", rows=7)},
    history=[
        {"step": 2, "epoch": 0.5, "loss": 0.9}, {"step": 2, "epoch": 0.5, "eval_loss": 0.8, "eval_f1": 0.75, "eval_runtime": 3.0},
        {"step": 4, "epoch": 1.0, "eval_loss": 0.7, "eval_f1": 0.5}, {"step": 4, "test_loss": 0.6, "test_f1": 0.25, "epoch": 1.0},
    ],
    step=2, last_step=4, total_steps=4, epochs=1.0, chosen_by="eval_f1", recipe={"learning_rate": 0.1}, precision="fp32",
    hardware="CPU", cut=(3, 100, 0.125), picture="curves.png", versions={"unpad": "1"},
)  # fmt: skip


def data(text: str) -> Any:
    """The facts in front, as the Hub's library reads them."""
    return ModelCard(text).data


def results(text: str) -> list[EvalResult]:
    return data(text).eval_results or []


def test_the_hubs_own_library_reads_the_facts_and_the_results() -> None:
    found = data(model_card(FACTS))
    assert (found.pipeline_tag, found.library_name, found.base_model) == ("text-classification", "transformers", "x/y")
    assert (found.language, found.license, found.datasets, found.tags) == (
        ["en"],
        "mit",
        ["x/tickets"],
        ["unpad", "mine"],
    )
    assert found.metrics == ["f1"] and found.model_name == "desk"
    told = [
        (r.dataset_name, r.dataset_config, r.dataset_split, r.metric_type, r.metric_value) for r in found.eval_results
    ]
    assert told == [("x/tickets", "small", "validation", "f1", 0.75), ("unknown", None, "test", "f1", 0.25)]
    for result in found.eval_results:
        assert EvalResult(**dataclasses.asdict(result)) == result


def test_only_the_figures_of_the_weights_that_are_kept_are_their_results() -> None:
    assert [r.metric_value for r in results(model_card(dataclasses.replace(FACTS, step=4)))] == [0.5, 0.25]
    between = model_card(dataclasses.replace(FACTS, step=3, judged={"eval": FACTS.judged["eval"]}))
    assert not results(between) and "were not judged" in between
    broken = [{"step": 2, "eval_f1": float("nan"), "eval_loss": 0.5}]
    assert [r.metric_type for r in results(model_card(dataclasses.replace(FACTS, history=broken)))] == ["loss"]


def test_what_nobody_told_is_not_in_the_card() -> None:
    text = model_card(CardFacts("desk", "desk", class_name="Net", library="pytorch", parameters=3))
    assert data(text).to_dict() == {"library_name": "pytorch", "tags": ["unpad"]}
    assert not re.search("None|license|nan|Results|Training", text)


@pytest.mark.parametrize("head", ["sequence-classification", "pre-training", "base"])
def test_a_card_that_is_sent_elsewhere_loads_from_there(head: str) -> None:
    facts = dataclasses.replace(FACTS, head=head, load='a "folder" of mine', labels=['```python\nmodel="x"'])
    there = dataclasses.replace(facts, load="anna/desk")
    assert addressed(model_card(facts), "anna/desk") == model_card(there) != model_card(facts)
    changed = model_card(facts).replace("1,234", "1,235")
    assert addressed(changed, "anna/desk") == changed


def shape(text: str) -> list[str]:
    """What Markdown makes of each line: a heading, a fence, a rule, the cells of a row of a table, an image, a comment, or text."""
    body = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    kinds = {"#": "heading", "`": "fence", "-": "item", "!": "image", "<": "comment"}
    found, inside = [], False
    for one in body.split("\n"):
        cells = 0 if inside else re.sub(r"\\.", "", one).count("|")
        inside ^= one.startswith("```")
        found.append(f"{kinds.get(one[:1], 'text')} {cells}")
    return found


EVIL = ["---", "a\n---\nb", "x: y", "'\"", "| a | b |", "<script>", "```\n", "# h", "[l](u)", "*", "\\", "\x00", "\ud800", "- a", "", "é", "\u2028", "null", "1e3", "!!python/object:os.system", "`a`b"]  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(st.lists(st.one_of(st.sampled_from(EVIL), st.text()), min_size=9, max_size=9))
def test_no_name_or_label_breaks_the_facts_or_the_text(words: list[str]) -> None:
    def named(words: list[str]) -> CardFacts:
        rows = DataFacts(words[1], None, words[2], words[3], 9)
        return dataclasses.replace(
            FACTS, name=words[0], load=words[0], labels=words[4:6], base=words[6], license=words[7] or "mit", tags=[words[8]], train=rows,
            judged={"eval": rows}, recipe={"note": words[4]}, chosen_by=words[5], hardware=words[3] or "x", language=[words[2]],
        )  # fmt: skip

    text = model_card(named(words))
    assert shape(text) == shape(model_card(named(["plain"] * 9)))
    found = data(text)
    assert (found.license or "") == line(words[7] or "mit") and found.tags[-1] in ("unpad", line(words[8]))
    assert (
        found.eval_results[0].dataset_name == (line(words[1]) or "unknown")
        and found.eval_results[0].metric_value == 0.75
    )
    compile(written_in(text), "card", "exec")
    assert text.encode().decode() == text


TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SMALL = {
    "bart": {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
             "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 64, "decoder_start_token_id": 101},
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64},
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(minilm: str) -> Any:
    return unpad.AutoTokenizer.from_pretrained(minilm)


def written_in(text: str) -> str:
    """The script that a card shows."""
    return re.findall(r"```python\n(.*?)\n```\n", text, re.DOTALL)[0]


@pytest.mark.parametrize("name", TASKS)
def test_the_script_of_a_card_runs_as_it_stands(
    name: str, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = "bart" if task(name).head == "conditional-generation" else "gpt2" if name == "text-generation" else "bert"
    ids = {"vocab_size": len(tokenizer), "bos_token_id": 101, "eos_token_id": 102, "pad_token_id": 0}
    config = unpad.AutoConfig.for_model(kind, **{**(TINY if kind == "bert" else SMALL[kind]), **ids})
    if name == "zero-shot-classification":
        config = config.replace(id2label={0: "contradiction", 1: "entailment"})
    model = getattr(unpad, task(name).auto_class).from_config(config)
    model.save_pretrained(tmp_path / "my model")
    tokenizer.save_pretrained(tmp_path / "my model")
    facts = CardFacts("my model", "my model", task=name, **model_facts(model))
    alone = (tmp_path / "my model" / "README.md").read_text()
    if data(alone).pipeline_tag == name:  # what a head alone tells
        assert written_in(alone) == written_in(model_card(facts))
    monkeypatch.chdir(tmp_path)
    for text in (model_card(facts), model_card(dataclasses.replace(facts, pairs=True))):
        exec(written_in(text), {})
        assert capsys.readouterr().out.strip()


def test_a_model_saved_alone_gets_a_small_card_and_no_card_is_replaced_by_it(tmp_path: Path) -> None:
    model = unpad.AutoModelForPreTraining.from_config(unpad.AutoConfig.for_model("electra", vocab_size=30, **TINY))
    model.save_pretrained(tmp_path)
    assert "AutoModelForPreTraining.from_pretrained" in (tmp_path / "README.md").read_text()
    assert not data((tmp_path / "README.md").read_text()).pipeline_tag
    (tmp_path / "README.md").write_text("mine")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_trainer_replaces_its_own_card_and_never_a_persons(tmp_path: Path) -> None:
    run = trainer(str(tmp_path), 2)
    run.save_model()
    first = (tmp_path / "README.md").read_text()
    assert replaceable(tmp_path)
    run.create_model_card(license="mit", tags="desk", language="en", model_name="Desk", tasks=["text-classification"])
    second: Any = ModelCard((tmp_path / "README.md").read_text())
    assert (second.data.license, second.data.tags, second.text.strip().splitlines()[0]) == (
        "mit",
        ["unpad", "desk"],
        "# Desk",
    )
    for theirs in ("mine", first.replace("Use", "Usage"), first + "\nand more", ""):
        (tmp_path / "README.md").write_text(theirs)
        run.save_model()
        assert (tmp_path / "README.md").read_text() == theirs and not replaceable(tmp_path)
    run.train()
    assert (tmp_path / "checkpoint-2" / "README.md").read_text() == "", (
        "what is sent of a checkpoint is the person's card"
    )


def test_equal_runs_have_equal_cards_also_when_continued(tmp_path: Path) -> None:
    texts = []
    for place in ("a", "b"):
        run = trainer(str(tmp_path / place / "run"), 4)
        run.train()
        if place == "b":
            run = trainer(str(tmp_path / place / "run"), 4)
            run.train(resume_from_checkpoint=tmp_path / "b" / "run" / "checkpoint-3")
        run.save_model()
        texts.append((tmp_path / place / "run" / "README.md").read_text())
    assert texts[0] == texts[1] and str(tmp_path) not in texts[0]


def test_a_card_of_a_run_tells_its_results_its_recipe_and_its_picture(tmp_path: Path) -> None:
    run = trainer(str(tmp_path), 6, draw_curves=True)
    run.train()
    run.callbacks = []
    run.evaluate(rows(9, 4), metric_key_prefix="test")
    run.save_model()
    text = (tmp_path / "README.md").read_text()
    records = [r for r in run.state.log_history if "eval_accuracy" in r and r["step"] == run.state.best_step]
    last = run.state.log_history[-1]
    assert [r.metric_value for r in results(text)] == [records[-1]["eval_accuracy"], last["test_accuracy"]]
    assert "](curves.png)" in text and "curves.png" not in (tmp_path / "checkpoint-6" / "README.md").read_text()
    assert "| `learning_rate` | `0.001` |" in text and "adam_beta1" not in text
    assert "| rows | 50," in text and "chosen by `eval_loss`" in text
    other = tmp_path / "other"
    run.save_model(other)
    assert "](curves.png)" not in (other / "README.md").read_text(), "there is no such picture"


def test_the_picture_of_an_earlier_run_is_not_that_of_this_one(tmp_path: Path) -> None:
    (tmp_path / "curves.png").write_bytes(b"old")
    os.utime(tmp_path / "curves.png", (1, 1))
    run = trainer(str(tmp_path), 2)
    run.train()
    run.save_model()
    assert "curves.png" not in (tmp_path / "README.md").read_text()


def test_a_token_of_the_hub_is_in_no_file_of_a_run(tmp_path: Path) -> None:
    run = trainer(str(tmp_path), 2, hub_token="hf_secret", hub_model_id="you/desk")
    run.train()
    run.save_model()
    assert "hf_secret" not in repr(run.args) and run.args.hub_token == "hf_secret"
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"hf_secret" in p.read_bytes()]
