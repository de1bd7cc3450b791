"""Every family and head computes what `transformers` computes, and reads and writes its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import test_seq2seq_models
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import SMALL, STORED, bert_config, check_head, close, packed, random_inputs, random_labels, their_class

from unpad import AutoModel, AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification, BertModel
from unpad.core.heads import HEADS
from unpad.engine.state import set_seed
from unpad.errors import CheckpointError
from unpad.families import FAMILIES, family

MODERN = {"pad_token_id": 0, "tie_word_embeddings": True}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 20}  # fmt: skip
CONFIGS: dict[str, list[dict]] = {
    "bert": [
        {"num_labels": 3},
        {"num_labels": 2, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5},
        {"num_labels": 5, "num_attention_heads": 1, "type_vocab_size": 1, "hidden_act": "relu"},
    ],
    "distilbert": [
        {"num_labels": 3, "hidden_dim": 48},
        {"num_labels": 2, "hidden_dim": 40, "activation": "relu", "sinusoidal_pos_embds": True},
    ],
    "roberta": [
        {"num_labels": 3, "pad_token_id": 1, "max_position_embeddings": 42},
        {"num_labels": 2, "pad_token_id": 1, "max_position_embeddings": 42, "type_vocab_size": 1, "hidden_act": "relu"},
        {"num_labels": 4, "pad_token_id": 0, "layer_norm_eps": 1e-5},
    ],
    "xlm-roberta": [
        {"num_labels": 3, "pad_token_id": 1, "max_position_embeddings": 42, "type_vocab_size": 1},
        {"num_labels": 2, "pad_token_id": 1, "max_position_embeddings": 42, "layer_norm_eps": 1e-5},
    ],
    "albert": [
        {"num_labels": 3, "embedding_size": 16},
        {"num_labels": 2, "embedding_size": 32, "num_hidden_layers": 4, "num_hidden_groups": 2, "hidden_act": "gelu"},
        {"num_labels": 4, "embedding_size": 24, "num_hidden_layers": 5, "num_hidden_groups": 3, "inner_group_num": 2},
    ],
    "electra": [
        {"num_labels": 3, "embedding_size": 16},
        {"num_labels": 2, "embedding_size": 32, "hidden_act": "relu"},
        {"num_labels": 4, "embedding_size": 40, "type_vocab_size": 1},
    ],
    "deberta-v2": [
        {"num_labels": 3},
        {"num_labels": 2, "position_biased_input": False, "relative_attention": True, "pos_att_type": "c2p", "type_vocab_size": 0},
        {"num_labels": 4, "position_biased_input": False, "relative_attention": True, "pos_att_type": ["p2c", "c2p"],
         "share_att_key": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "layer_norm_eps": 1e-5},
        {"num_labels": 2, "type_vocab_size": 2, "relative_attention": True, "pos_att_type": "p2c|c2p", "max_relative_positions": 10,
         "position_buckets": 4, "hidden_act": "relu"},
        {"num_labels": 2, "relative_attention": True, "pos_att_type": ["p2c"], "max_relative_positions": 6, "share_att_key": True},
    ],
    "modernbert": [
        {"num_labels": 3, **MODERN, "num_hidden_layers": 4, "global_attn_every_n_layers": 3, "local_attention": 6},
        {"num_labels": 2, **MODERN, "classifier_pooling": "mean", "global_attn_every_n_layers": 1, "global_rope_theta": 500.0,
         "norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True, "decoder_bias": False},
        {"num_labels": 4, **MODERN, "layer_types": ["full_attention", "sliding_attention"] * 2, "num_hidden_layers": 4,
         "local_attention": 8, "hidden_activation": "relu", "local_rope_theta": 20.0, "norm_eps": 1e-4},
    ],
    "gpt2": [
        {"num_labels": 3, "pad_token_id": 0},
        {"num_labels": 2, "pad_token_id": 5, "n_inner": 40, "activation_function": "relu", "scale_attn_weights": False,
         "tie_word_embeddings": False, "layer_norm_epsilon": 1e-3, "eos_token_id": [7, 8]},
    ],
    "openai-gpt": [
        {"num_labels": 3, "pad_token_id": 0},
        {"num_labels": 2, "pad_token_id": 3, "afn": "silu", "layer_norm_epsilon": 1e-3, "tie_word_embeddings": False},
    ],
    "ctrl": [
        {"num_labels": 3, "pad_token_id": 0, "dff": 48},
        {"num_labels": 2, "pad_token_id": 2, "dff": 20, "num_attention_heads": 1, "tie_word_embeddings": False},
    ],
    "llama": [
        {"num_labels": 3, "pad_token_id": 0},
        {"num_labels": 2, "pad_token_id": 0, "num_key_value_heads": 1, "tie_word_embeddings": True, "head_dim": 6, "attention_bias": True,
         "mlp_bias": True, "rms_norm_eps": 1e-3, "rope_parameters": LLAMA3},
        {"num_labels": 4, "pad_token_id": 2, "num_key_value_heads": 2, "hidden_act": "gelu",
         "rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 100.0}},
    ],
    "mistral": [
        {"num_labels": 3, "pad_token_id": 0, "num_key_value_heads": 2, "sliding_window": 5},
        {"num_labels": 2, "pad_token_id": 0, "num_key_value_heads": 1, "sliding_window": None, "head_dim": 10, "tie_word_embeddings": True},
    ],
    "qwen2": [
        {"num_labels": 3, "pad_token_id": 0, "num_key_value_heads": 2, "tie_word_embeddings": True},
        {"num_labels": 2, "pad_token_id": 0, "num_key_value_heads": 4, "rope_theta": 1000.0},
    ],
    "qwen3": [
        {"num_labels": 3, "pad_token_id": 0, "num_key_value_heads": 2, "head_dim": 10, "tie_word_embeddings": True},
        {"num_labels": 2, "pad_token_id": 0, "num_key_value_heads": 1, "head_dim": 8, "attention_bias": True, "rope_theta": 1e6},
    ],
}  # fmt: skip
"""Family -> changes to a small configuration. A family without a row fails the suite; its heads are its own list."""

LENGTHS = [7, 1, 19, 12, 12, 3]
CASES = [(name, head, changes) for name, rows in CONFIGS.items() for changes in rows for head in family(name).heads]


def test_every_family_has_parity_cases() -> None:
    assert set(FAMILIES) == {*CONFIGS, *test_seq2seq_models.CONFIGS, *STORED}


@pytest.mark.parametrize("name", STORED)
def test_only_what_transformers_has_no_more_is_compared_with_stored_numbers(name: str) -> None:
    with pytest.raises(ValueError, match=r"[Uu]nrecognized"):
        transformers.AutoConfig.for_model(name)
    assert (Path(__file__).parent / STORED[name]).is_file()


@pytest.mark.parametrize(("name", "head", "changes"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_numbers_and_files_equal_transformers(name: str, head: str, changes: dict, tmp_path: Path) -> None:
    torch.manual_seed(0)
    outputs = {"num_labels": 2} if HEADS[head].labels == "span" else {}  # theirs would make as many span ends as labels
    config = transformers.AutoConfig.for_model(name, **{**SMALL, **changes, **outputs})
    model = their_class(name, head)(config)
    for p in model.parameters():  # norms away from 1 and biases away from 0, so that a swap of two shows
        torch.nn.init.normal_(p, std=0.2)
    inputs = random_inputs(config, 1, LENGTHS)
    check_head(model, head, inputs, random_labels(config, head, inputs, 2), tmp_path)


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
def test_losses_of_other_problem_types_equal_transformers(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = bert_config(num_labels=1 if kind == "regression" else 4, problem_type=kind)
    model = transformers.BertForSequenceClassification(config)
    labels = torch.rand(6) if kind == "regression" else torch.randint(0, 2, (6, 4)).float()
    check_head(model, "sequence-classification", random_inputs(config, 2, LENGTHS), {"labels": labels}, tmp_path)


def test_minilm_equals_transformers(minilm: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=2)
    inputs = random_inputs(model.config, 3, [40, 9, 128])
    check_head(model, "sequence-classification", inputs, {"labels": torch.tensor([0, 1, 1])}, tmp_path)


def test_the_base_model_loads_into_and_out_of_a_headed_checkpoint(minilm: str, tmp_path: Path) -> None:
    headed = AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=2)
    assert headed.load_report is not None and set(headed.load_report.new) == {
        "head.classifier.weight",
        "head.classifier.bias",
    }
    headed.save_pretrained(tmp_path)
    base = AutoModel.from_pretrained(tmp_path)
    assert not base.load_report.new
    ours = transformers.AutoModel.from_pretrained(minilm)
    inputs = random_inputs(ours.config, 4, [5, 30])
    close(base(**inputs).pooler_output, ours(**inputs).pooler_output, 1e-5)


def test_sharded_checkpoints_load_on_both_sides(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = transformers.BertForSequenceClassification(bert_config(num_labels=3)).eval()
    theirs.save_pretrained(tmp_path / "a", max_shard_size="20KB")
    assert len(list((tmp_path / "a").glob("model-*.safetensors"))) > 2
    ours = BertForSequenceClassification.from_pretrained(tmp_path / "a")
    ours.save_pretrained(tmp_path / "b", max_shard_size="20KB")
    assert len(list((tmp_path / "b").glob("model-*.safetensors"))) > 2
    again = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "b").eval()
    inputs = random_inputs(theirs.config, 5, LENGTHS)
    assert torch.equal(again(**inputs).logits, theirs(**inputs).logits)
    close(ours(**inputs).logits, theirs(**inputs).logits, 1e-5)


@pytest.mark.parametrize("shard", ["../outside.safetensors", "/etc/passwd", 3, None, ["a"]])
def test_the_index_of_a_checkpoint_leads_to_no_other_folder(shard: object, tmp_path: Path) -> None:
    small = BertConfig(vocab_size=8, hidden_size=4, num_attention_heads=1, num_hidden_layers=1, intermediate_size=4)
    BertModel(small).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = tmp_path / "model" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"embeddings.word_embeddings.weight": shard}}))
    with pytest.raises(CheckpointError, match="not trustworthy"):
        BertModel.from_pretrained(tmp_path / "model")


def test_new_models_start_from_the_published_initialisation() -> None:
    set_seed(0)
    model = BertModel(BertConfig(hidden_size=64, num_attention_heads=4, num_hidden_layers=2, vocab_size=500))
    theirs = transformers.BertConfig().to_dict()
    ours = BertConfig().to_dict()
    assert {k: theirs[k] for k in ours if k in theirs and k not in ("architectures",)} == {
        k: ({int(i): v for i, v in ours[k].items()} if k == "id2label" else ours[k])
        for k in ours
        if k in theirs and k != "architectures"
    }
    assert abs(model.transformer.blocks[0].up.weight.std().item() - 0.02) < 0.002
    assert model.transformer.embeddings.tokens.weight[0].abs().sum() == 0


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12), seed=st.integers(0, 2**31))
def test_padding_and_neighbours_never_change_a_prediction(lengths: list[int], seed: int) -> None:
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_config(BertConfig(**SMALL))
    inputs = random_inputs(model.config, seed, lengths)
    together = model(**inputs).logits
    native = packed(inputs)
    close(native.restore(model(native).logits), together, 1e-5)
    for row, length in enumerate(lengths):
        alone = {name: value[row : row + 1, :length] for name, value in inputs.items()}
        close(model(**alone).logits, together[row : row + 1], 1e-5)
