"""Every family and head computes what `transformers` computes, and reads and writes its checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import bert_config, check_head, close, packed, random_inputs

from unpad import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
)
from unpad.core.attention import attend
from unpad.engine.state import set_seed
from unpad.families import FAMILIES, family

CASES = {
    ("bert", "base"): (
        "AutoModel",
        transformers.BertModel,
        [{}, {"hidden_act": "relu", "layer_norm_eps": 1e-5}],
    ),
    ("bert", "sequence-classification"): (
        "AutoModelForSequenceClassification",
        transformers.BertForSequenceClassification,
        [
            {"num_labels": 3},
            {"num_labels": 2, "type_vocab_size": 1, "hidden_act": "gelu_new"},
            {"num_labels": 5, "num_attention_heads": 1},
        ],
    ),
}
"""(family, head) -> our class, theirs, configurations. A family and head without a row fails the suite."""

LENGTHS = [7, 1, 19, 12, 12, 3]


def test_every_family_and_head_has_a_parity_case() -> None:
    assert {(name, head) for name in FAMILIES for head in family(name).heads} == set(CASES)


@pytest.mark.parametrize(
    ("ours", "theirs", "changes"),
    [(ours, theirs, c) for ours, theirs, configs in CASES.values() for c in configs],
)
def test_numbers_and_files_equal_transformers(ours: str, theirs: type, changes: dict, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = bert_config(**changes)
    model = theirs(config)
    for p in model.parameters():  # norms away from 1 and biases away from 0, so that a swap of two shows
        torch.nn.init.normal_(p, std=0.2)
    inputs = random_inputs(config, 1, LENGTHS)
    labels = None if ours == "AutoModel" else torch.randint(0, config.num_labels, (len(LENGTHS),))
    check_head(model, ours, inputs, labels, tmp_path)


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
def test_losses_of_other_problem_types_equal_transformers(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = bert_config(num_labels=1 if kind == "regression" else 4, problem_type=kind)
    model = transformers.BertForSequenceClassification(config)
    labels = torch.rand(6) if kind == "regression" else torch.randint(0, 2, (6, 4)).float()
    check_head(
        model, "AutoModelForSequenceClassification", random_inputs(config, 2, LENGTHS), labels, tmp_path
    )


def test_minilm_equals_transformers(minilm: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=2)
    inputs = random_inputs(model.config, 3, [40, 9, 128])
    check_head(model, "AutoModelForSequenceClassification", inputs, torch.tensor([0, 1, 1]), tmp_path)


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
    model = AutoModelForSequenceClassification.from_config(BertConfig(**_SMALL))
    inputs = random_inputs(model.config, seed, lengths)
    together = model(**inputs).logits
    native = packed(inputs)
    close(native.restore(model(native).logits), together, 1e-5)
    for row, length in enumerate(lengths):
        alone = {name: value[row : row + 1, :length] for name, value in inputs.items()}
        close(model(**alone).logits, together[row : row + 1], 1e-5)


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=10), seed=st.integers(0, 2**31))
def test_attention_backends_agree_with_the_float64_reference(lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    batch = packed(random_inputs(bert_config(), seed, lengths))
    qkv = torch.randn(batch.tokens, 3 * 16, requires_grad=True)
    weight = torch.randn(batch.tokens, 16)
    results = {}
    for backend in ("naive", "bucketed"):
        out = attend(qkv, batch, 4, backend=backend)
        (grad,) = torch.autograd.grad((out * weight).sum(), qkv)
        results[backend] = (out, grad)
    with torch.inference_mode():
        fused = attend(qkv, batch, 4)
    for ours, reference in zip(results["bucketed"], results["naive"], strict=True):
        close(ours, reference, 1e-5)
    close(fused, results["naive"][0], 1e-5)


_SMALL = {"vocab_size": 101, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
          "max_position_embeddings": 40}  # fmt: skip
