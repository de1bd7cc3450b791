"""Configurations that no model could be trained or saved with are refused in one line, where they are made."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import unpad
from unpad.errors import ArgumentError, DataError
from unpad.models import auto

TINY = {
    "vocab_size": 50, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 32,
}  # fmt: skip
IDS = {"pad_token_id": 49, "decoder_start_token_id": 49, "eos_token_id": 0, "forced_eos_token_id": 0}
TOKENS = ["pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id"]  # fmt: skip


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("value", [50, -1, "x", 1.5, True])
def test_a_special_token_that_the_vocabulary_lacks_is_refused_by_name(name, value):
    with pytest.raises(ArgumentError, match=f"^{name}={value!r} ") as told:
        unpad.AutoConfig.for_model("marian", **{**TINY, **IDS, name: value})
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["eos_token_id", "forced_eos_token_id"])
def test_one_of_several_end_tokens_is_checked_too(name):
    assert auto.MarianConfig(**{**TINY, **IDS, name: [0, 49]}).vocab_size == 50
    with pytest.raises(ArgumentError, match=f"^{name}=50 is no token of the vocabulary, which has 0..49"):
        auto.MarianConfig(**{**TINY, **IDS, name: [0, 50]})


def test_an_encoder_decoder_is_not_made_with_a_start_token_that_it_cannot_read():
    """The published start token is beyond a smaller vocabulary; training would end in an IndexError."""
    config = auto.MarianConfig(**TINY, pad_token_id=49)
    with pytest.raises(ArgumentError, match="decoder_start_token_id=58100 is no token of the vocabulary"):
        unpad.AutoModelForSeq2SeqLM.from_config(config)


def test_a_loaded_model_is_checked_against_its_new_settings(tmp_path):
    model = unpad.AutoModelForSeq2SeqLM.from_config(auto.MarianConfig(**TINY, **IDS))
    model.save_pretrained(tmp_path)
    for load in (unpad.AutoModelForSeq2SeqLM.from_pretrained, unpad.AutoConfig.from_pretrained):
        with pytest.raises(ArgumentError, match="decoder_start_token_id=50 is no token"):
            load(tmp_path, decoder_start_token_id=50)
    ids = torch.tensor([[3, 4, 0]])
    again = unpad.AutoModelForSeq2SeqLM.from_pretrained(tmp_path, decoder_start_token_id=np.int64(7))
    assert again(input_ids=ids, labels=ids).loss.isfinite()


def test_token_ids_of_files_that_mean_none_still_load(tmp_path):
    """Some published files of decoders write -1 for "no such token"."""
    config = auto.LlamaConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    unpad.AutoModelForCausalLM.from_config(config.replace(pad_token_id=-1)).save_pretrained(tmp_path)
    assert unpad.AutoModelForCausalLM.from_pretrained(tmp_path).config.pad_token_id == -1


@pytest.mark.parametrize(("family", "old"), [("gpt2", 77), ("openai-gpt", 78), ("ctrl", 79)])
def test_n_ctx_is_kept_without_effect_and_said_once(family, old, caplog, tmp_path):
    """As transformers has it: positions are n_positions, the old name stays in the file."""
    for _ in range(2):
        config = unpad.AutoConfig.for_model(family, n_ctx=old, n_positions=64)
    assert (config.n_positions, config.longest, config.n_ctx) == (64, 64, old)
    assert caplog.messages == [f"n_ctx={old} has no effect; n_positions=64 is what bounds a text"]
    config.save_pretrained(tmp_path)
    assert unpad.AutoConfig.from_pretrained(tmp_path, n_ctx=9).to_dict()["n_ctx"] == 9
    with pytest.raises(ArgumentError, match="has no 'n_ctx'"):
        auto.BertConfig(n_ctx=77)


@pytest.mark.parametrize("family", ["gpt2", "t5", "bert"])
@pytest.mark.parametrize(
    "texts", [[], ["", " "], [["", "\n"], []], iter(())], ids=["none", "blank", "batches", "iterator"]
)
def test_a_model_from_scratch_needs_texts(family, texts):
    with pytest.raises(DataError, match="there are no texts, or none of them has a word"):
        unpad.from_scratch(family, texts)


def test_texts_after_empty_ones_are_all_learnt_from():
    _, tokenizer = unpad.from_scratch("bert", iter(["", "abc abc"]), 60, num_hidden_layers=1, hidden_size=8, num_attention_heads=1)  # fmt: skip
    assert tokenizer.tokenize("abc") == ["abc"]


@pytest.mark.parametrize("wrong", [[1], {"summarization": [1]}, 7])
def test_settings_of_tasks_that_are_no_table_are_left_out(wrong: object) -> None:
    config = unpad.AutoConfig.for_model("t5").replace(extra={"task_specific_params": wrong})
    assert config.task_settings == {}
    assert unpad.GenerationConfig.from_model_config(config, "summarization").max_length is None
