"""Transformer-XL computes what it computed in the last releases of `transformers` that had it; numbers of theirs stand in a file, made by
`make_transfo_xl_fixture.py`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from make_transfo_xl_fixture import CASES, FILE, LENGTHS, PROMPTS, SMALL, WAYS, draw, words
from oracle import close, gradients_under_their_names
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import unpad
from unpad.batch import pack
from unpad.core.noise import Noise
from unpad.core.recurrent import RecurrentAttention
from unpad.families import family
from unpad.generate.loop import generate_rows
from unpad.models import auto

with safe_open(str(FILE), framework="pt") as fixture:
    STORED = json.loads(fixture.metadata()["facts"])
    FACTS: dict[str, dict[str, Any]] = STORED["cases"]
    THEIRS = {name: fixture.get_tensor(name) for name in fixture.keys()}  # noqa: SIM118
MODELS = [(case, head) for case, heads in FACTS.items() for head in heads]
REMEMBER = [case for case in CASES if CASES[case].get("mem_len") != 0]


def their_file(case: str, head: str, folder: Path, std: float = 0.2) -> dict[str, torch.Tensor]:
    """A checkpoint as theirs wrote it: the same names, shapes and values."""
    facts = FACTS[case][head]
    weights = {name: draw(name, shape, std) for name, shape in facts["names"].items()}
    buffers = {name: torch.zeros(shape) for name, shape in facts["buffers"].items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(facts["config"]))
    save_file({**weights, **buffers}, str(folder / "model.safetensors"))
    return weights


def load(head: str, folder: Path) -> Any:
    return getattr(auto, family("transfo-xl").class_name(head)).from_pretrained(folder)


def our_model(case: str, head: str, folder: Path, std: float = 0.2) -> Any:
    their_file(case, head, folder, std)
    model = load(head, folder)
    assert not model.load_report.new and not model.load_report.unexpected
    return model


def texts(case: str, number: int) -> list[torch.Tensor]:
    return [words(case, f"{number}/{row}", size)[0] for row, size in enumerate(LENGTHS[number])]


def asked(ids: torch.Tensor) -> torch.Tensor:
    return torch.where(ids % 5 == 2, -100, ids)


def padded(case: str, number: int, head: str) -> dict[str, torch.Tensor]:
    """A segment as tensors [B, S], with labels."""
    rows = texts(case, number)
    pad = lambda parts, fill: torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=fill)  # noqa: E731
    inputs = {"input_ids": pad(rows, SMALL["pad_token_id"]), "attention_mask": pad([r * 0 + 1 for r in rows], 0)}
    if head == "causal-lm":
        inputs["labels"] = pad([asked(row) for row in rows], -100)
    elif head != "base":
        inputs["labels"] = torch.arange(3)
    return inputs


def loss_of_segments(model: Any, case: str, head: str, found: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
    """Mean loss over all segments, each with the memory of those before; answers go to `found` under the fixture's names."""
    total: Any = torch.zeros(())
    count, mems, found = 0, None, {} if found is None else found
    for number, lengths in enumerate(LENGTHS):
        given = {} if mems is None else {"mems": mems}
        output = model(**padded(case, number, head), **given)
        mems, at = output.get("mems"), f"{case}/{head}/{number}"
        if head == "sequence-classification":
            found[f"{at}/logits"] = output.logits
        else:
            name = "hidden" if head == "base" else "logits"
            for row, size in enumerate(lengths):
                answer = output.last_hidden_state if head == "base" else output.logits
                found[f"{at}/{name}/{row}"] = answer[row, :size]
        if head != "base":
            total, count = total + output.loss_sum, count + output.loss_count
    if mems is not None and head != "sequence-classification":
        found[f"{case}/{head}/mems"] = torch.stack(mems)
    if head != "base":
        found[f"{case}/{head}/loss"] = total / count
    return total / max(count, 1)


@pytest.mark.parametrize(("case", "head"), MODELS)
def test_every_segment_gives_the_numbers_of_transformers(case: str, head: str, tmp_path: Path) -> None:
    model = our_model(case, head, tmp_path)
    found: dict[str, torch.Tensor] = {}
    loss = loss_of_segments(model, case, head, found)
    if head != "base":
        loss.backward()
        ours = gradients_under_their_names(model)
        found |= {f"{case}/{head}/grad/{name}": g for name, g in ours.items()}
    expected = {name for name in THEIRS if name.startswith(f"{case}/{head}/")}
    assert len(expected) > 3 and expected <= set(found)
    for name in expected:
        close(found[name], THEIRS[name], 1e-4 if "/grad/" in name else 1e-5, name)


@pytest.mark.parametrize("case", CASES)
def test_texts_are_those_of_transformers_with_and_without_a_cache(case: str, tmp_path: Path) -> None:
    model = our_model(case, "causal-lm", tmp_path, std=0.6)
    prompts = [words(case, f"prompt/{number}", size)[0].numpy() for number, size in enumerate(PROMPTS)]
    for way, options in WAYS.items():
        for cached in (True, False):
            written = generate_rows(model, prompts=prompts, max_new_tokens=10, use_cache=cached, **options)
            for number, found in enumerate(written):
                theirs = THEIRS[f"{case}/{way}/{number}"].tolist()
                assert len(found) == len(theirs)
                for text, other in zip(found, theirs, strict=True):
                    end = other.index(11) + 1 if 11 in other else (other.index(-1) if -1 in other else len(other))
                    assert text.tolist() == other[:end], (way, cached, number)


@pytest.mark.parametrize(("case", "head"), MODELS)
def test_files_are_theirs_again_when_written(case: str, head: str, tmp_path: Path) -> None:
    weights = their_file(case, head, tmp_path / "theirs")
    load(head, tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    written = load_file(tmp_path / "ours" / "model.safetensors")
    assert {name: t.tolist() for name, t in written.items()} == {name: t.tolist() for name, t in weights.items()}
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    before = FACTS[case][head]["config"]
    assert {key: config.get(key) for key in before} == before
    assert config["tie_word_embeddings"] == before.get("tie_word_embeddings", True)


@pytest.mark.parametrize("case", CASES)
def test_a_pickle_of_theirs_with_every_copy_loads_without_a_word(case: str, tmp_path: Path) -> None:
    weights = their_file(case, "causal-lm", tmp_path)
    ours = load("causal-lm", tmp_path)
    copies = {name: weights[kept].clone() for name, kept in FACTS[case]["causal-lm"]["copies"].items()}
    (tmp_path / "model.safetensors").unlink()
    torch.save({**weights, **copies, "transformer.pos_emb.inv_freq": torch.ones(6)}, tmp_path / "pytorch_model.bin")
    again = load("causal-lm", tmp_path)
    assert not again.load_report.new and not again.load_report.unexpected
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), ours.parameters(), strict=True))
    base = load("base", tmp_path)
    assert not base.load_report.new and torch.equal(
        base.transformer.embeddings.tokens.weight, ours.transformer.embeddings.tokens.weight
    )


def test_every_head_of_the_family_is_among_the_stored_ones() -> None:
    assert {head for _, head in MODELS} == set(family("transfo-xl").heads)


@pytest.mark.parametrize("case", CASES)
def test_packed_segments_are_the_padded_ones(case: str, tmp_path: Path) -> None:
    model = our_model(case, "causal-lm", tmp_path)
    mems: Any = []
    total, count = torch.zeros(()), 0
    for number in range(len(LENGTHS)):
        rows = texts(case, number)
        batch = pack([row.numpy() for row in rows], token_labels=[asked(row).numpy() for row in rows])
        output = model(batch, mems=mems) if model.config.memory_length else model(batch)
        mems, total, count = output.get("mems"), total + output.loss_sum, count + output.loss_count
        assert model(batch).get("mems") is None  # nobody asked for them
    close(total / count, THEIRS[f"{case}/causal-lm/loss"], 1e-5)
    if mems:
        close(torch.stack(mems), THEIRS[f"{case}/causal-lm/mems"], 1e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_reference_in_float64_agrees(case: str, tmp_path: Path) -> None:
    model = our_model(case, "causal-lm", tmp_path)
    found: dict[str, torch.Tensor] = {}
    with mock.patch.object(RecurrentAttention, "_attend", reference.recurrent):
        loss_of_segments(model, case, "causal-lm", found)
    for name, values in found.items():
        close(values, THEIRS[name], 1e-5, name)


@settings(max_examples=15, deadline=None)
@given(
    cuts=st.lists(st.lists(st.integers(1, 9), min_size=3, max_size=3), min_size=1, max_size=4), one_table=st.booleans()
)
def test_with_an_even_reach_it_does_not_matter_how_texts_are_cut_into_segments(
    cuts: list[list[int]], one_table: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """`same_length`: every token sees the same number of tokens, in its own segment or in the memory."""
    case = "parts-of-one-table" if one_table else "published"
    model = our_model(case, "causal-lm", tmp_path_factory.mktemp("model"))
    rows = [words(case, f"cut/{row}", sum(cut[row] for cut in cuts))[0].numpy() for row in range(3)]
    every = lambda batch: torch.arange(batch.tokens)  # noqa: E731
    at_once, mems, parts = pack(rows), [], [[], [], []]  # type: ignore[var-annotated]
    expected = model(replace(at_once, asked=every(at_once))).logits
    starts = np.zeros(3, dtype=int)
    for cut in cuts:
        segment = pack([row[start : start + size] for row, start, size in zip(rows, starts, cut, strict=True)])
        output = model(replace(segment, asked=every(segment)), mems=mems)
        mems, starts = output.mems, starts + cut
        for row, logits in zip(segment.order, output.logits.split(segment.lengths), strict=True):
            parts[row].append(logits)
    for row, logits in zip(at_once.order, expected.split(at_once.lengths), strict=True):
        close(torch.cat(parts[row]), logits, 1e-5)


@pytest.mark.parametrize("case", ["one-table", "parts-of-one-table", "projected"])
@pytest.mark.parametrize("tied", [True, False])
def test_gradients_by_rows_are_those_of_a_plain_table(case: str, tied: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = unpad.AutoConfig.for_model(
        "transfo-xl", **{**SMALL, **CASES[case], "tie_word_embeddings": tied, "dropout": 0.0, "dropatt": 0.0}
    )
    model = unpad.TransfoXLLMHeadModel(config)
    rows = model.row_embeddings()[0]
    text = [np.array([3, 4, 30, 4]), np.array([38, 7])]
    batch = pack(text, token_labels=text)
    model.train()(batch).loss.backward()
    plain = rows.weight.grad.clone()
    model.zero_grad()
    used = None if tied else torch.unique(batch.input_ids)
    rows.train_rows(used)
    for _ in range(2):
        rows.clear_gradient()
        model(batch).loss.backward()
        close(rows.trained.grad, plain if used is None else plain[used], 1e-6)


@pytest.mark.parametrize("case", CASES)
def test_new_models_know_nothing_and_learn(case: str) -> None:
    torch.manual_seed(0)
    model = unpad.TransfoXLLMHeadModel(unpad.AutoConfig.for_model("transfo-xl", **{**SMALL, **CASES[case]}))
    ids = torch.arange(2, 10)[None].expand(4, 8)
    first = model(ids, labels=ids).loss.item()
    assert 2 < first < 5  # log 40 is 3.7; a word of a part takes two steps
    adam = torch.optim.Adam(model.train().parameters(), lr=0.02)
    for _ in range(25):
        adam.zero_grad()
        model(ids, labels=ids).loss.backward()
        adam.step()
    assert model.eval()(ids, labels=ids).loss.item() < 0.5 * first


def test_bf16_gives_nearly_the_same_answer(tmp_path: Path) -> None:
    model = our_model("published", "causal-lm", tmp_path)
    with torch.autocast("cpu", torch.bfloat16):
        found: dict[str, torch.Tensor] = {}
        loss_of_segments(model, "published", "causal-lm", found).backward()
    for name, values in found.items():
        close(values, THEIRS[name], 0.1, name)


REFUSED = [
    ({"attn_type": 1}, "attn_type=1 changes the computation"),
    ({"sample_softmax": 5}, "sample_softmax=5 changes the computation"),
    ({"ext_len": 2}, "ext_len=2 changes the computation"),
    ({"proj_share_all_but_first": False}, "proj_share_all_but_first=False changes the computation"),
    ({"cutoffs": [9, 9]}, "cutoffs=[9, 9] must rise from 1 and stay below vocab_size=40"),
    ({"cutoffs": [9, 40]}, "must rise from 1 and stay below vocab_size=40"),
    ({"cutoffs": [0, 9]}, "must rise from 1 and stay below vocab_size=40"),
    ({"cutoffs": ["9"]}, "must rise from 1 and stay below vocab_size=40"),
    ({"cutoffs": 9}, "must rise from 1 and stay below vocab_size=40"),
    ({"tie_projs": "yes"}, "must be True, False or 4 of these"),
    ({"cutoffs": [9, 25]}, "must be True, False or 3 of these"),
    ({"div_val": 50}, "div_val=50 must leave the last of 4 parts of the vocabulary a width"),
    ({"div_val": 0}, "div_val=0 must be a whole number, 1 or more"),
    ({"mem_len": -1}, "mem_len=-1 must be a whole number, 0 or more"),
    ({"mem_len": 0}, "same_length=True must be False where there is no memory"),
    ({"d_model": 13}, "d_model=13 must be even"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_would_change_the_numbers_is_refused_by_name(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**FACTS["published"]["causal-lm"]["config"], **changes}))
    with pytest.raises(unpad.CheckpointError) as caught:
        unpad.AutoConfig.from_pretrained(tmp_path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_memory_that_is_not_of_this_model_is_refused(tmp_path: Path) -> None:
    model = our_model("published", "causal-lm", tmp_path)
    ids = torch.full((2, 4), 7)
    mems = model(ids).mems
    for wrong in (mems[:1], [m[:3] for m in mems], [m[:, :1] for m in mems], [1, 2]):
        with pytest.raises(unpad.ArgumentError, match=r"^mems must be 2 tensors \[6, 2, 12\], .*$"):
            model(ids, mems=wrong)
    with pytest.raises(unpad.ArgumentError, match="takes no argument 'mems'"):
        our_model("no-memory", "causal-lm", tmp_path / "none")(ids, mems=mems)
    model.train().label_smoothing = 0.1
    with pytest.raises(unpad.ArgumentError, match=r"label smoothing 0\.1 is not supported"):
        model(pack([np.arange(4)], token_labels=[np.arange(4)]))


def test_defaults_are_those_of_transformers() -> None:
    ours = unpad.AutoConfig.for_model("transfo-xl")
    found = {key: getattr(ours, key) for key in family("transfo-xl").fields}
    assert found == {key: STORED["defaults"].get(key) for key in found}


def test_dropout_strikes_where_it_does_in_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = unpad.TransfoXLModel(unpad.AutoConfig.for_model("transfo-xl", **{**SMALL, **CASES["one-table"]})).train()
    masks: list[list[float]] = []
    draw = Noise.mask
    monkeypatch.setattr(
        Noise, "mask", lambda self, shape, p, like: masks.append([p, *shape]) or draw(self, shape, p, like)
    )
    model(torch.stack(texts("one-table", 0)))
    assert sorted([p, int(np.prod(shape))] for p, *shape in masks) == sorted(STORED["dropouts"])
