"""Every family that writes, writes what `transformers` writes: greedy and with beams, prompts of different lengths in one batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_models
import test_seq2seq_models
import torch
import transformers
from oracle import SMALL, STORED, their_class

import unpad
from unpad.core.heads import HEADS
from unpad.families import FAMILIES, family
from unpad.generate.loop import generate_rows

WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"repetition_penalty": 1.3},
    "beams": {"num_beams": 4, "length_penalty": 0.7, "no_repeat_ngram_size": 2, "early_stopping": True},
    "some-beams": {"num_beams": 4, "num_return_sequences": 3, "length_penalty": 2.0},
}
LENGTHS = [7, 1, 12, 3, 12, 5]
WRITERS = [
    name
    for name in FAMILIES
    if {"causal-lm", "conditional-generation"} & set(family(name).heads) and name not in STORED
]


def writer(name: str, changes: dict[str, Any]) -> Any:
    """A random model of `transformers` with wide scores, so that no two texts are nearly as likely."""
    torch.manual_seed(1)
    if "causal-lm" in family(name).heads:
        model = their_class(name, "causal-lm")(transformers.AutoConfig.for_model(name, **{**SMALL, **changes}))
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.35)
    else:
        model = test_seq2seq_models.their_model(name, "conditional-generation", changes)
        for p in model.parameters():
            if p.dim() > 1 and p.requires_grad:
                torch.nn.init.normal_(p, std=0.35)
    return model.eval()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", WRITERS)
def test_texts_are_those_of_transformers(name: str, way: str, tmp_path: Path) -> None:
    lone = "causal-lm" in family(name).heads
    for number, changes in enumerate((test_models.CONFIGS if lone else test_seq2seq_models.CONFIGS)[name]):
        theirs = writer(name, changes)
        theirs.save_pretrained(tmp_path / str(number))
        auto = unpad.AutoModelForCausalLM if lone else unpad.AutoModelForSeq2SeqLM
        ours = auto.from_pretrained(tmp_path / str(number))
        draw = np.random.default_rng(number)
        rows = [draw.integers(6, 96, size) for size in LENGTHS]
        # an end token that comes up now and then, no padding in texts, and no special rules of the family's own
        own = {
            "eos_token_id": 11,
            "pad_token_id": 1,
            "suppress_tokens": [1],
            "forced_eos_token_id": None,
            "forced_bos_token_id": None,
            "max_new_tokens": 12,
        }
        settings, expected = {**own, **WAYS[way]}, []
        if not lone:
            start = ours.config.decoder_start_token_id
            settings["decoder_start_token_id"] = 7 if start is None else start  # mBART is told the language
        theirs.generation_config = transformers.GenerationConfig()
        for row in rows:  # alone: nothing to pad; their cache fails where a decoder has more layers than its encoder
            ids = torch.from_numpy(row)[None]
            found = theirs.generate(ids, attention_mask=torch.ones_like(ids), use_cache=False, **settings)
            before = len(row) if lone else 1
            expected.append([text[before:].tolist() for text in found])
        for cached in (True, False):
            given: dict[str, Any] = {"prompts": rows} if lone else {"sources": rows}
            written = generate_rows(ours, **given, **settings, use_cache=cached)
            for ours_of, theirs_of in zip(written, expected, strict=True):
                assert len(ours_of) == len(theirs_of)
                for text, other in zip(ours_of, theirs_of, strict=True):
                    end = other.index(11) + 1 if 11 in other else len(other)
                    assert text.tolist() == other[:end], (name, changes, cached)


def test_every_family_with_a_vocabulary_that_writes_is_among_them() -> None:
    assert {
        name for name in FAMILIES if any(HEADS[h].next or HEADS[h].labels == "target" for h in family(name).heads)
    } == {*WRITERS, *STORED}
