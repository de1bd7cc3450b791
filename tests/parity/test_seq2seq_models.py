"""Every encoder-decoder family and head computes what `transformers` computes, and reads and writes its checkpoints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from oracle import check_gradients_and_files, check_head, close, packed, random_labels, their_class

from unpad import ArgumentError, AutoConfig, AutoModel, AutoModelForSeq2SeqLM, CheckpointError, DataError, T5Config
from unpad.batch import PackedBatch, pack
from unpad.core.heads import HEADS
from unpad.families import family
from unpad.models import auto

BART = {"vocab_size": 101, "d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4, "eos_token_id": 99,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 40, "max_position_embeddings": 25}  # fmt: skip
T5 = {"vocab_size": 101, "d_model": 32, "d_kv": 6, "d_ff": 40, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0,
      "eos_token_id": 99}  # fmt: skip
SMALL = {
    "bart": BART,
    "mbart": BART,
    "marian": {**BART, "pad_token_id": 100, "decoder_start_token_id": 100},
    "t5": T5,
    "mt5": T5,
}
CONFIGS: dict[str, list[dict]] = {
    "bart": [
        {"num_labels": 3},
        {"num_labels": 4, "scale_embedding": True, "activation_function": "relu", "decoder_start_token_id": 5, "pad_token_id": 0},
    ],
    "mbart": [
        {"num_labels": 3, "scale_embedding": True},
        {"num_labels": 4, "decoder_start_token_id": 7, "activation_function": "gelu_new", "encoder_layers": 1},
    ],
    "marian": [
        {"scale_embedding": True, "activation_function": "swish"},
        {"decoder_start_token_id": 5, "encoder_attention_heads": 1, "decoder_layers": 1},
    ],
    "t5": [
        {"num_labels": 3},
        {"num_labels": 2, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_decoder_layers": 3},
        {"num_labels": 4, "feed_forward_proj": "gated-silu", "relative_attention_num_buckets": 8, "layer_norm_epsilon": 1e-3,
         "relative_attention_max_distance": 12, "d_kv": 8, "decoder_start_token_id": 5},
    ],
    "mt5": [
        {"num_labels": 3},
        {"num_labels": 2, "feed_forward_proj": "gelu", "num_decoder_layers": 1, "initializer_factor": 0.5},
    ],
}  # fmt: skip
"""Family -> changes to a small configuration. A family without a row fails the suite; its heads are its own list."""

SOURCES, TARGETS = [7, 2, 19, 12, 12, 3], [4, 9, 1, 20, 6, 6]
CASES = [(name, head, changes) for name, rows in CONFIGS.items() for changes in rows for head in family(name).heads]


def their_model(name: str, head: str, changes: dict) -> Any:
    """A random model of `transformers` whose norms are away from 1 and biases from 0, so that a swap of two shows."""
    torch.manual_seed(0)
    outputs = {"num_labels": 2} if HEADS[head].labels == "span" else {}
    model = their_class(name, head)(transformers.AutoConfig.for_model(name, **{**SMALL[name], **changes, **outputs}))
    biases = [b for n, b in model.named_buffers() if n == "final_logits_bias"]
    for p in [*(p for p in model.parameters() if p.requires_grad), *biases]:
        torch.nn.init.normal_(p, std=0.2)
    for name, p in model.named_parameters():
        if "norm" in name and name.endswith("weight"):  # so that gradients reach the embeddings
            torch.nn.init.normal_(p, mean=1.0, std=0.2)
    return model.eval()


def rows_of(config: Any, seed: int, lengths: list[int]) -> dict[str, torch.Tensor]:
    """Padded texts that end with the end token, which stands nowhere else, as classes of BART and T5 need it."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(6, 96, (len(lengths), max(lengths)), generator=draw)
    ends = torch.tensor(lengths)
    ids[torch.arange(len(ids)), ends - 1] = 99
    mask = torch.arange(ids.shape[1]) < ends[:, None]
    return {"input_ids": ids.where(mask, config.pad_token_id), "attention_mask": mask.long()}


def with_target(
    source: dict[str, torch.Tensor], labels: torch.Tensor | None, written: torch.Tensor | None
) -> PackedBatch:
    """The batch of a collator: what the decoder is to write, or (`written`) what it reads."""
    rows = labels if labels is not None else written
    assert rows is not None
    cut = [row[:n].numpy() for row, n in zip(rows, TARGETS, strict=True)]
    if labels is None:
        return replace(packed(source), target=pack(cut))
    return replace(packed(source), target=pack([row.clip(min=0) for row in cut], token_labels=cut))


@pytest.mark.parametrize(("name", "head", "changes"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_numbers_and_files_equal_transformers(name: str, head: str, changes: dict, tmp_path: Path) -> None:
    theirs = their_model(name, head, changes)
    source = rows_of(theirs.config, 1, SOURCES)
    if HEADS[head].labels in ("row", "span"):
        check_head(theirs, head, source, random_labels(theirs.config, head, source, 2), tmp_path)
        return
    theirs.save_pretrained(tmp_path / "theirs")
    ours = (AutoModel if head == "base" else AutoModelForSeq2SeqLM).from_pretrained(tmp_path / "theirs")
    assert not ours.load_report.new and not ours.load_report.unexpected
    target = rows_of(theirs.config, 3, TARGETS)
    real, order = target["attention_mask"].bool(), sorted(range(len(TARGETS)), key=lambda i: -TARGETS[i])
    labels = target["input_ids"].masked_fill(~real, -100)
    labels[3, 5] = labels[1, 2] = -100  # tokens that are not asked
    mask = {"decoder_attention_mask": target["attention_mask"]}
    if head == "base":
        calls = {**source, "decoder_input_ids": target["input_ids"], **mask}
        expected, padded = theirs(**calls), ours(**calls)
        native = ours(with_target(source, None, target["input_ids"]))
        close(padded.last_hidden_state[real], expected.last_hidden_state[real], 1e-5)
        close(native.last_hidden_state, expected.last_hidden_state[order][real[order]], 1e-5)
        read = source["attention_mask"].bool()
        close(padded.encoder_last_hidden_state[read], expected.encoder_last_hidden_state[read], 1e-5)
        memory = packed(source).pad(native.encoder_last_hidden_state)
        close(memory[read], expected.encoder_last_hidden_state[read], 1e-5)
        loss, their_loss = (
            h.square().sum(-1).mean() for h in (native.last_hidden_state, expected.last_hidden_state[real])
        )
    else:
        expected, padded = theirs(**source, labels=labels, **mask), ours(**source, labels=labels, **mask)
        native = ours(with_target(source, labels, None))
        close(padded.logits[real], expected.logits[real], 1e-5)
        written = theirs.prepare_decoder_input_ids_from_labels(labels)
        close(ours(**source, decoder_input_ids=written, **mask).logits[real], expected.logits[real], 1e-5)
        answers = ours(with_target(source, None, written)).logits
        close(answers, expected.logits[order][real[order]], 1e-5)
        close(padded.loss, expected.loss, 1e-5)
        close(native.loss, expected.loss, 1e-5)
        assert native.loss_count == sum(TARGETS) - 2
        loss, their_loss = native.loss, expected.loss
    loss.backward()
    their_loss.backward()
    check_gradients_and_files(theirs, ours, tmp_path)


@pytest.mark.parametrize("name", ["bart", "mbart"])
def test_the_base_model_reads_its_own_source_where_no_target_is_given(name: str, tmp_path: Path) -> None:
    theirs = their_model(name, "base", {})
    theirs.save_pretrained(tmp_path)
    ours, source = AutoModel.from_pretrained(tmp_path), rows_of(theirs.config, 1, SOURCES)
    real, expected = source["attention_mask"].bool(), theirs(**source).last_hidden_state
    close(ours(**source).last_hidden_state[real], expected[real], 1e-5)
    batch = packed(source)
    close(batch.pad(ours(batch).last_hidden_state)[real], expected[real], 1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_defaults_are_those_of_transformers(name: str) -> None:
    theirs, ours = transformers.AutoConfig.for_model(name), AutoConfig.for_model(name)
    for key in family(name).fields:
        if (name, key) != ("t5", "decoder_start_token_id"):  # theirs has none, and does not train without
            assert getattr(ours, key) == getattr(theirs, key, None), key
    assert name == "marian" or ours.num_labels == theirs.num_labels
    for head in family(name).heads:
        assert hasattr(transformers, family(name).class_name(head))
    dropped = transformers.AutoConfig.for_model("t5", dropout_rate=0.3)
    assert dropped.dropout_rate == 0.3 == T5Config(dropout_rate=0.3).probability("attention_dropout")


@pytest.mark.parametrize("name", CONFIGS)
def test_old_files_with_every_copy_of_the_token_embedding_load_without_a_word(name: str, tmp_path: Path) -> None:
    theirs = their_model(name, "conditional-generation", {})
    theirs.config.save_pretrained(tmp_path)
    state = dict(theirs.state_dict())
    assert set(family(name).copies) <= set(state)
    if name in ("t5", "mt5"):
        state["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.zeros(32, 4)
    expected = theirs(torch.tensor([[6, 99]]), labels=torch.tensor([[7, 99]])).logits
    for left_out in (None, *family(name).copies.values()):  # some files keep a copy and not the weight
        state.pop(left_out, None)
        torch.save(state, tmp_path / "pytorch_model.bin")
        for kind in (AutoModelForSeq2SeqLM, AutoModel):
            ours = kind.from_pretrained(tmp_path)
            assert not ours.load_report.new
            assert not set(ours.load_report.unexpected) - {"final_logits_bias"}
        ours = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
        close(ours(torch.tensor([[6, 99]]), labels=torch.tensor([[7, 99]])).logits, expected, 1e-5)


@pytest.mark.parametrize("name", ["bart", "marian"])
def test_a_base_checkpoint_writes_without_anything_to_train(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    their_model(name, "base", {}).save_pretrained(tmp_path)
    capsys.readouterr()
    ours = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert not ours.head.bias.any() and not capsys.readouterr().err.count("new head")


@pytest.mark.parametrize(("name", "says"), [("t5", False), ("mt5", False), ("t5", True), ("mt5", True)])
def test_a_published_table_of_its_own_reads_out_the_vocabulary(name: str, says: bool, tmp_path: Path) -> None:
    """T5 v1.1 and mT5: the file has an `lm_head` that is not the embedding, whatever config.json says of it."""
    theirs = their_model(
        name, "conditional-generation", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    )
    torch.manual_seed(3)
    config = {**json.loads(theirs.config.to_json_string()), "tie_word_embeddings": says}
    if not says:
        config.pop("scale_decoder_outputs", None)  # a key of transformers 5
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save({**theirs.state_dict(), "lm_head.weight": torch.randn(101, 32)}, tmp_path / "pytorch_model.bin")
    theirs = their_class(name, "conditional-generation").from_pretrained(tmp_path)
    source = torch.tensor([[6, 8, 99]])
    expected = theirs(source, labels=source).logits
    ours = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    close(ours(source, labels=source).logits, expected, 1e-5)
    assert not ours.load_report.new and not ours.load_report.unexpected
    ours.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["tie_word_embeddings"] is False
    for again in (type(theirs), AutoModelForSeq2SeqLM):
        close(again.from_pretrained(tmp_path / "again")(source, labels=source).logits, expected, 1e-5)
    assert not AutoModel.from_pretrained(tmp_path / "again").load_report.new


def test_weights_of_a_new_t5_are_as_wide_as_those_of_transformers() -> None:
    sizes = {**T5, "vocab_size": 4000, "d_model": 96, "d_ff": 300, "d_kv": 40, "initializer_factor": 0.7,
             "feed_forward_proj": "gated-gelu", "num_labels": 50}  # fmt: skip
    for head in ("sequence-classification", "conditional-generation"):
        torch.manual_seed(0)
        theirs = their_class("t5", head)(transformers.T5Config(**sizes))
        ours = getattr(auto, family("t5").class_name(head))(T5Config(**sizes))
        there = dict(theirs.named_parameters())
        for name, p in ours.named_parameters():
            rule, names = ours.family.rule(name, head, ours.config)
            for part, other in zip(rule.write(p, ours.config), names, strict=True):
                wanted = there[other]
                near = abs(part.std() / wanted.std() - 1) < 0.2 if wanted.std() > 0 else torch.equal(part, wanted)
                assert near, other


def test_ids_outside_the_vocabulary_are_named_in_one_line() -> None:
    model = AutoModelForSeq2SeqLM.from_config(T5Config(**T5))
    ids = torch.full((2, 3), 7)
    for name in ("labels", "decoder_input_ids", "input_ids"):
        wrong = {"input_ids": ids, "labels": ids, name: torch.tensor([[7, 7, 7], [7, 101, 7]])}
        line = rf"^{name} hold 101, the model takes 0\.\.100; use the model's own tokenizer$"
        with pytest.raises(DataError, match=line):
            model(**wrong)
    text, wrong = np.array([7, 8]), np.array([7, 101])
    with pytest.raises(DataError, match=r"^labels hold 101, the model takes 0\.\.100; use the model's own tokenizer$"):
        model(replace(pack([text]), target=pack([text], token_labels=[wrong])))


@pytest.mark.parametrize(("buckets", "reach"), [(2, 128), (32, 16), (32, 4)])
def test_buckets_of_distances_that_cannot_be_are_refused_in_one_line(buckets: int, reach: int) -> None:
    line = rf"^relative_attention_num_buckets={buckets} must be 4 or more, and relative_attention_max_distance={reach} more than .*$"
    with pytest.raises(ArgumentError, match=line):
        T5Config(**T5, relative_attention_num_buckets=buckets, relative_attention_max_distance=reach)


def test_a_target_longer_than_the_model_is_refused_in_one_line() -> None:
    model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model("bart", **BART))
    text = torch.full((1, 26), 7)
    with pytest.raises(DataError, match=r"^a sequence of 26 tokens is longer than the model's 25 positions; .*$"):
        model(text[:, :5], labels=text)


@pytest.mark.parametrize("name", ["labels", "decoder_input_ids"])
@pytest.mark.parametrize(
    "text", [torch.full((2, 3), 7), torch.full((6, 3), 7), torch.full((4,), 7), torch.ones(4, 0).long(), [[7]] * 4]
)
def test_a_target_that_does_not_fit_its_sources_is_refused_in_one_line(name: str, text: Any) -> None:
    model = AutoModelForSeq2SeqLM.from_config(T5Config(**T5))
    with pytest.raises(
        ArgumentError, match=rf"^{name} must be a tensor \[B, S'\] with one row for each of the 4 rows of .*$"
    ):
        model(torch.full((4, 5), 7), **{name: text})


@pytest.mark.parametrize("name", CONFIGS)
def test_no_rows_have_no_answers_and_rows_without_tokens_are_refused(name: str) -> None:
    model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(name, **SMALL[name]))
    assert model(torch.ones(0, 5).long(), labels=torch.ones(0, 4).long()).logits.shape == (0, 4, 101)
    with pytest.raises(
        ArgumentError, match=r"^input_ids must be a PackedBatch or a tensor \[B, S\], .* shape \[2, 0\]; .*$"
    ):
        model(torch.ones(2, 0).long(), labels=torch.ones(2, 4).long())


def test_positions_that_a_caller_gives_are_those_of_the_source() -> None:
    model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model("bart", **BART))
    text, places = torch.full((1, 6), 7), torch.tensor([[4, 5, 6, 7, 8, 9]])
    plain = model(text, labels=text).logits
    assert torch.equal(model(text, labels=text, position_ids=places - 4).logits, plain)
    assert not torch.allclose(model(text, labels=text, position_ids=places).logits, plain)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("marian", "share_encoder_decoder_embeddings", False),
        ("bart", "encoder_layerdrop", 0.1),
        ("mbart", "tie_word_embeddings", False),
    ],
)
def test_what_would_change_the_numbers_is_refused_by_name(name: str, key: str, value: Any, tmp_path: Path) -> None:
    raw = transformers.AutoConfig.for_model(name, **SMALL[name]).to_dict()
    (tmp_path / "config.json").write_text(json.dumps({**raw, key: value}))
    with pytest.raises(CheckpointError, match=f"{key}={value} changes the computation and is not supported for {name}"):
        AutoConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize("head", ["conditional-generation", "question-answering"])
def test_gradients_by_rows_leave_out_padding_that_is_read(head: str, tmp_path: Path) -> None:
    """The decoder of Marian starts with it; PyTorch's `padding_idx` says so, and training must learn the same numbers."""
    theirs = their_model("bart", head, {"decoder_start_token_id": 1, "dropout": 0.0})
    theirs.save_pretrained(tmp_path)
    model = getattr(auto, family("bart").class_name(head)).from_pretrained(tmp_path)
    source = rows_of(theirs.config, 1, SOURCES)
    batch = packed(source, torch.tensor([[0, 1]] * len(SOURCES)) if head == "question-answering" else None)
    if head == "conditional-generation":
        target = rows_of(theirs.config, 3, TARGETS)
        batch = with_target(source, target["input_ids"].where(target["attention_mask"].bool(), -100), None)
    model(batch).loss.backward()
    rows, plain = model.row_embeddings()[0], model.row_embeddings()[0].weight.grad.clone()
    model.zero_grad()
    rows.train_rows()
    model.train()(batch).loss.backward()
    close(rows.trained.grad, plain, 1e-6)
    assert head == "conditional-generation" or not plain[1].any()
