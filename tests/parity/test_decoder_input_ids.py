"""`generate(decoder_input_ids=...)`: an encoder-decoder goes on with what is written already, as `transformers` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from test_generate_families import writer

import unpad
from unpad import ArgumentError

WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"max_new_tokens": 9},
    "beams": {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.6, "max_length": 12},
    "rules": {"num_beams": 2, "min_length": 8, "max_length": 11, "no_repeat_ngram_size": 2, "repetition_penalty": 1.2, "forced_eos_token_id": 11},
}  # fmt: skip
OWN = {"eos_token_id": 11, "pad_token_id": 1, "suppress_tokens": [1], "forced_bos_token_id": 20}
START = 2


@pytest.fixture(scope="module", params=["bart", "t5", "marian"])
def pair(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    theirs = writer(request.param, {})
    theirs.generation_config = transformers.GenerationConfig()
    theirs.save_pretrained(folder)
    return unpad.AutoModelForSeq2SeqLM.from_pretrained(folder), theirs


def source() -> dict[str, torch.Tensor]:
    ids = torch.randint(12, 90, (3, 7), generator=torch.Generator().manual_seed(4))
    ids[1, 4:] = ids[2, 6:] = 1
    return {"input_ids": ids, "attention_mask": (ids != 1).long()}


def settings(way: str, **more: Any) -> dict[str, Any]:
    return {"forced_eos_token_id": None, "decoder_start_token_id": START, **OWN, **WAYS[way], **more}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("prefix", [[[2, 30, 31], [2, 40, 41], [2, 50, 51]], [[30, 31], [40, 41], [50, 51]], [[2], [2], [2]], [[2, 30], [40, 41], [50, 51]]])  # fmt: skip
def test_what_is_written_goes_on_as_in_transformers(pair: tuple[Any, Any], way: str, prefix: list[list[int]]) -> None:
    """With the start token or (all rows) without it; tokens of the prefix count for lengths and rules as they do there."""
    ours, theirs = pair
    written = torch.tensor(prefix)
    expected = theirs.generate(**source(), decoder_input_ids=written, **settings(way, use_cache=False))
    for cached in (True, False):
        found = ours.generate(**source(), decoder_input_ids=written, **settings(way, use_cache=cached))
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("way", WAYS)
def test_rows_may_have_written_different_lengths(pair: tuple[Any, Any], way: str) -> None:
    """With a mask, padding on either side; each row then gets what it gets alone."""
    ours, _ = pair
    given, rows = source(), [[2, 30, 31, 32], [2, 40], [2]]
    for left in (True, False):
        filled = [[1] * (4 - len(row)) * left + row + [1] * (4 - len(row)) * (not left) for row in rows]
        mask = [[int(token != 1) for token in row] for row in filled]
        many = ours.generate(
            **given, decoder_input_ids=torch.tensor(filled), decoder_attention_mask=torch.tensor(mask), **settings(way)
        )
        several = len(many) // 3
        for number, row in enumerate(rows):
            one = {name: value[number : number + 1] for name, value in given.items()}
            alone = ours.generate(**one, decoder_input_ids=torch.tensor([row]), **settings(way))[:, len(row) :]
            for found, right in zip(many[number * several : (number + 1) * several, 4:].tolist(), alone.tolist(), strict=True):  # fmt: skip
                assert found[: len(right)] == right and set(found[len(right) :]) <= {1}


def test_padding_that_is_also_the_start_token_is_not_taken_for_padding(pair: tuple[Any, Any]) -> None:
    """T5's and Marian's decoders start with the pad token."""
    ours, theirs = pair
    written = torch.tensor([[1, 30], [1, 40], [1, 50]])
    options = settings("greedy", decoder_start_token_id=1)
    assert ours.generate(**source(), decoder_input_ids=written, **options).tolist() == (
        theirs.generate(**source(), decoder_input_ids=written, **options).tolist()
    )


@pytest.mark.parametrize(("options", "error"), [
    ({"decoder_input_ids": [[2, 3]]}, "^decoder_input_ids is a list; generate takes token ids"),
    ({"decoder_input_ids": torch.tensor([2, 3, 4])}, r"^decoder_input_ids is a tensor \[3\]"),
    ({"decoder_input_ids": torch.tensor([[2, 3]])}, "^decoder_input_ids has 1 rows, input_ids 3; give one for each"),
    ({"decoder_input_ids": torch.tensor([[2]] * 3), "decoder_attention_mask": torch.ones(3, 2)}, r"^decoder_attention_mask is \[3, 2\], decoder_input_ids \[3, 1\]"),
    ({"decoder_attention_mask": torch.ones(3, 2)}, "^decoder_attention_mask is the mask of decoder_input_ids; give these too"),
    ({"decoder_input_ids": torch.tensor([[2, 999]] * 3)}, "row 0 holds the id 999, the model takes 0.."),
])  # fmt: skip
def test_what_cannot_be_gone_on_with_is_one_line(pair: tuple[Any, Any], options: dict[str, Any], error: str) -> None:
    with pytest.raises(unpad.errors.UnpadError, match=error) as told:
        pair[0].generate(**source(), **settings("greedy"), **options)
    assert "\n" not in str(told.value)


def test_a_decoder_alone_writes_on_after_its_input_ids(tmp_path: Path) -> None:
    model = unpad.AutoModelForCausalLM.from_config(unpad.AutoConfig.for_model("gpt2", vocab_size=20, n_embd=8, n_layer=1, n_head=1))  # fmt: skip
    with pytest.raises(ArgumentError, match="decoder_input_ids are for encoder-decoders"):
        model.generate(torch.tensor([[1]]), decoder_input_ids=torch.tensor([[1]]))
