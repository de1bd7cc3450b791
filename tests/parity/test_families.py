"""What the table of parity cases cannot show: padding on the left, shared weights, old files, dropout, first weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from oracle import SMALL, close, packed, random_inputs, random_labels, their_class

import unpad
from unpad import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, DataError
from unpad.core.heads import HEADS
from unpad.families import family
from unpad.models import auto

OWN: dict[str, dict[str, Any]] = {
    "bert": {},
    "distilbert": {"hidden_dim": 48, "seq_classif_dropout": 0.31, "qa_dropout": 0.32, "dropout": 0.33},
    "roberta": {"max_position_embeddings": 42, "classifier_dropout": 0.31, "hidden_dropout_prob": 0.32},
    "xlm-roberta": {"max_position_embeddings": 42, "hidden_dropout_prob": 0.32},
    "albert": {"embedding_size": 16, "classifier_dropout_prob": 0.31, "hidden_dropout_prob": 0.32},
    "electra": {"embedding_size": 16, "classifier_dropout": 0.31, "summary_last_dropout": 0.32},
}
"""Family -> what a small configuration of it needs, with a different value for each dropout."""
DECODERS: dict[str, dict[str, Any]] = {
    "gpt2": {"pad_token_id": 0, "classifier_dropout": 0.31, "resid_pdrop": 0.32, "embd_pdrop": 0.33, "attn_pdrop": 0.34},
    "openai-gpt": {"pad_token_id": 0, "resid_pdrop": 0.32, "embd_pdrop": 0.33, "attn_pdrop": 0.34},
    "ctrl": {"pad_token_id": 0, "resid_pdrop": 0.32, "embd_pdrop": 0.33, "dff": 48},
    "llama": {"pad_token_id": 0, "num_key_value_heads": 2, "attention_dropout": 0.34},
    "mistral": {"pad_token_id": 0, "num_key_value_heads": 2, "classifier_dropout": 0.31},
    "qwen2": {"pad_token_id": 0, "num_key_value_heads": 2},
    "qwen3": {"pad_token_id": 0, "num_key_value_heads": 2, "head_dim": 8},
}  # fmt: skip
"""The same of those that write."""
CASES = [(name, head) for name in (*OWN, *DECODERS) for head in family(name).heads]


def their_config(name: str, **changes: Any) -> Any:
    return transformers.AutoConfig.for_model(
        name, **{**SMALL, **OWN.get(name, {}), **DECODERS.get(name, {}), **changes}
    )


def both(name: str, head: str, folder: Path, **changes: Any) -> tuple[Any, Any]:
    """The same random model on both sides."""
    torch.manual_seed(0)
    theirs = their_class(name, head)(their_config(name, **changes)).eval()
    for p in theirs.parameters():
        torch.nn.init.normal_(p, std=0.2)
    theirs.save_pretrained(folder)
    return theirs, getattr(auto, family(name).class_name(head)).from_pretrained(folder)


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta", "bert", "albert"])
def test_padding_on_the_left_or_inside_gives_the_numbers_of_transformers(name: str, tmp_path: Path) -> None:
    theirs, ours = both(name, "base", tmp_path)
    pad = theirs.config.pad_token_id
    ids = torch.randint(2, 101, (4, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    for row, places in enumerate([[0, 1, 2], [0], [4, 8], []]):
        ids[row, places], mask[row, places] = pad, 0
    ids[3, 5] = pad  # an id of padding that is seen by the others
    real = mask.bool()
    for extra in ({}, {"position_ids": torch.arange(5, 14)[None].expand(4, 9)}):
        expected = theirs(input_ids=ids, attention_mask=mask, **extra).last_hidden_state[real]
        close(ours(input_ids=ids, attention_mask=mask, **extra).last_hidden_state[real], expected, 1e-5)
    close(ours(input_ids=ids).last_hidden_state, theirs(input_ids=ids).last_hidden_state, 1e-5)


def test_roberta_takes_as_many_tokens_as_its_table_has_places_after_the_padding_id(tmp_path: Path) -> None:
    theirs, ours = both("roberta", "base", tmp_path)
    assert ours.config.longest == 40
    ids = torch.full((1, 40), 7)
    close(ours(packed({"input_ids": ids, "attention_mask": ids})).last_hidden_state, theirs(ids)[0][0], 1e-5)
    with pytest.raises(DataError, match="41 tokens is longer than the model's 40 positions"):
        ours(torch.full((1, 41), 7))


@pytest.mark.parametrize(("name", "head"), CASES)
def test_models_have_as_many_parameters_as_in_transformers(name: str, head: str, tmp_path: Path) -> None:
    theirs, ours = both(name, head, tmp_path)
    assert ours.num_parameters() == theirs.num_parameters()


@pytest.mark.parametrize(("layers", "groups", "inner"), [(6, 1, 1), (5, 3, 2), (18, 14, 1), (2, 3, 1)])
def test_layers_of_albert_share_weights_as_in_transformers(
    layers: int, groups: int, inner: int, tmp_path: Path
) -> None:
    theirs, ours = both("albert", "base", tmp_path, num_hidden_layers=layers, num_hidden_groups=groups,
                        inner_group_num=inner)  # fmt: skip
    assert ours.num_parameters() == theirs.num_parameters()
    assert sum(p.shape == (48, 32) for p in ours.parameters()) == groups * inner
    inputs = random_inputs(theirs.config, 1, [5, 9])
    real = inputs["attention_mask"].bool()
    close(ours(**inputs).last_hidden_state[real], theirs(**inputs).last_hidden_state[real], 1e-5)


def test_an_electra_discriminator_gives_one_logit_per_token() -> None:
    config = AutoConfig.for_model("electra", **SMALL, embedding_size=16, num_labels=5)
    model = unpad.ElectraForPreTraining(config)
    inputs = random_inputs(config, 1, [4, 7])
    assert model(**inputs).logits.shape == (2, 7)
    labels = random_labels(config, "pre-training", inputs, 2)["labels"]
    output = model(packed(inputs, labels, per_token=True))
    assert output.logits.shape == (11,) and output.loss_count == 11
    with pytest.raises(DataError, match=r"labels hold 2, the model takes 0\.\.1"):
        model(**inputs, labels=torch.full_like(labels, 2))


@pytest.mark.parametrize(("name", "head"), [case for case in CASES if case[1] != "base"])
def test_heads_drop_with_the_probabilities_of_the_family(name: str, head: str, tmp_path: Path) -> None:
    theirs, ours = both(name, head, tmp_path)
    used: list[float] = []
    for path, module in theirs.named_modules():
        if isinstance(module, torch.nn.Dropout) and not path.startswith(theirs.base_model_prefix):
            module.register_forward_hook(lambda m, *_: used.append(m.p))
    inputs = random_inputs(theirs.config, 1, [5, 3])
    theirs(**{k: v[None] if HEADS[head].labels == "choice" else v for k, v in inputs.items()})
    assert [p for p in (ours.head.p_in, ours.head.p) if p] == used


@pytest.mark.parametrize("name", OWN)
def test_old_checkpoints_load_into_every_head_without_a_word_about_duplicates(name: str, tmp_path: Path) -> None:
    theirs, ours = both(name, "masked-lm", tmp_path / "new")
    prefix = theirs.base_model_prefix
    state = dict(theirs.state_dict())  # tied copies included
    assert set(family(name).copies) <= set(state)
    inputs = random_inputs(theirs.config, 1, [5, 9])

    old = {}
    for key, value in state.items():
        module = theirs.get_submodule(key.rpartition(".")[0])
        if isinstance(module, torch.nn.LayerNorm):
            key = key.replace("weight", "gamma").replace("bias", "beta")
        old[key] = value
    old[f"{prefix}.embeddings.position_ids"] = torch.arange(40)[None]
    old[f"{prefix}.pooler.dense.weight"] = torch.zeros(32, 32)
    (tmp_path / "old").mkdir()
    theirs.config.save_pretrained(tmp_path / "old")
    torch.save(old, tmp_path / "old" / "pytorch_model.bin")
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "old")
    assert set(again.load_report.unexpected) == {f"{prefix}.pooler.dense.weight"}
    assert torch.equal(again(**inputs).logits, ours(**inputs).logits)
    other = AutoModelForSequenceClassification.from_pretrained(tmp_path / "old")
    assert not any("decoder" in n or "position_ids" in n for n in other.load_report.unexpected)
    assert not set(family(name).copies) & set(other.load_report.unexpected)

    for copy, kept in family(name).copies.items():  # files that kept the copy and left the weight out
        del state[kept]
        assert copy in state
    torch.save(state, tmp_path / "old" / "pytorch_model.bin")
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "old")
    assert not again.load_report.new and not again.load_report.unexpected
    assert torch.equal(again(**inputs).logits, ours(**inputs).logits)
    base = AutoModel.from_pretrained(tmp_path / "old")
    assert torch.equal(base.transformer.embeddings.tokens.weight, ours.transformer.embeddings.tokens.weight)


@pytest.mark.parametrize("name", OWN)
def test_another_head_says_in_one_line_which_parameters_are_new(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both(name, "masked-lm", tmp_path)
    capsys.readouterr()
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3)
    said = [line for line in capsys.readouterr().err.splitlines() if "new head" in line]
    assert len(said) == 1
    parameters = {n for n, _ in model.named_parameters() if n.startswith("head.")}
    assert set(said[0].partition("to be trained: ")[2].split(", ")) == parameters
    assert abs(model.head.dense.weight.std().item() - 0.02) < 0.005 and not model.head.classifier.bias.any()


@pytest.mark.parametrize("name", OWN)
def test_a_new_vocabulary_head_starts_from_the_initialisation_of_the_family(name: str, tmp_path: Path) -> None:
    both(name, "base", tmp_path)
    head = AutoModelForMaskedLM.from_pretrained(tmp_path, initializer_range=0.05).head
    assert abs(head.dense.weight.std().item() - 0.05) < 0.01
    assert (head.norm.weight == 1).all() and not any(b.any() for b in (head.bias, head.norm.bias, head.dense.bias))


def test_what_a_file_has_of_a_layer_is_never_drawn_anew(tmp_path: Path) -> None:
    """A classifier that was saved without its bias: the bias is new, the weight is read."""
    theirs, _ = both("bert", "sequence-classification", tmp_path)
    state = {name: p for name, p in theirs.state_dict().items() if name != "classifier.bias"}
    theirs.save_pretrained(tmp_path, state_dict=state)
    ours = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert ours.load_report.new == ("head.classifier.bias",) and not ours.head.classifier.bias.any()
    assert torch.equal(ours.head.classifier.weight, theirs.classifier.weight)


@pytest.mark.parametrize("name", ["distilbert", "roberta"])
def test_segments_of_zeros_are_taken_where_there_are_none_and_others_are_refused(name: str, tmp_path: Path) -> None:
    _, ours = both(name, "sequence-classification", tmp_path, type_vocab_size=1)
    ids = torch.full((2, 6), 9)
    zeros = torch.zeros_like(ids)
    assert torch.equal(ours(ids, token_type_ids=zeros).logits, ours(ids).logits)
    one = {"input_ids": ids, "attention_mask": zeros + 1, "token_type_ids": zeros}
    close(ours(packed(one)).logits, ours(ids).logits, 1e-6)
    with pytest.raises(DataError, match=r"^token_type_ids hold 1, the model takes 0\.\.0; .*$"):
        ours(ids, token_type_ids=zeros + 1)


def test_segments_that_a_model_leaves_out_are_not_read(tmp_path: Path) -> None:
    theirs, ours = both("deberta-v2", "sequence-classification", tmp_path, type_vocab_size=0)
    ids = torch.full((2, 6), 9)
    close(ours(ids, token_type_ids=ids * 0 + 1).logits, theirs(ids, token_type_ids=ids * 0 + 1).logits, 1e-5)


@pytest.mark.parametrize("name", ["albert", "electra"])
@pytest.mark.parametrize("used", [None, range(2, 60)])
def test_gradients_by_rows_are_those_of_a_plain_table_when_embeddings_are_narrow(
    name: str, used: range | None, tmp_path: Path
) -> None:
    _, model = both(name, "sequence-classification", tmp_path)
    rows = model.transformer.embeddings.tokens
    assert model.row_embeddings() == [rows] and rows.weight.shape == (101, 16)
    inputs = {k: v % 60 for k, v in random_inputs(model.config, 1, [7, 7, 7]).items()}
    batch = packed({**inputs, "input_ids": inputs["input_ids"].clamp(min=2)}, torch.tensor([0, 1, 1]))
    model.eval()(batch).loss.backward()
    plain = rows.weight.grad.clone()
    model.zero_grad()
    for module in model.modules():  # training mode without dropout
        module.p = module.p_in = module.attention_p = module.last_p = 0.0
    rows.train_rows(None if used is None else torch.tensor(used))
    model.train()(batch).loss.backward()
    close(rows.trained.grad, plain if used is None else plain[list(used)], 1e-6)
    rows.clear_gradient()
    assert not rows.trained.grad.any()


@pytest.mark.parametrize("name", ["albert", "bert"])
def test_bf16_gives_the_same_answer_whatever_rows_were_appended(name: str, tmp_path: Path) -> None:
    _, ours = both(name, "base", tmp_path)
    batch = packed(random_inputs(ours.config, 1, [7, 12]))
    expected = ours(batch).last_hidden_state
    with torch.autocast("cpu", torch.bfloat16):
        found = ours(batch).last_hidden_state
        assert ours.transformer.embeddings(batch, None).dtype == torch.float32  # the residual stream
    close(found, expected, 0.1)


@pytest.mark.parametrize("name", [*OWN, *DECODERS])
def test_defaults_are_those_of_transformers(name: str) -> None:
    theirs, ours = transformers.AutoConfig.for_model(name), AutoConfig.for_model(name)
    unsaid = {"num_key_value_heads": ours.key_heads, "head_dim": ours.head_width}  # where ours is None
    absent = {"classifier_dropout": 0.1, "rope_theta": 10_000.0}  # theirs stand in the code, or in rope_parameters
    for key in set(family(name).fields) - {"rope_scaling"}:  # today a part of rope_parameters
        value = getattr(ours, key)
        assert (unsaid.get(key) if value is None else value) == getattr(theirs, key, absent.get(key)), key


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3"])
def test_rotary_positions_are_read_where_older_files_have_them(name: str, tmp_path: Path) -> None:
    scaling = {"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 20}  # fmt: skip
    theirs, _ = both(name, "base", tmp_path, rope_parameters={**scaling, "rope_type": "llama3", "rope_theta": 500.0})
    raw = json.loads((tmp_path / "config.json").read_text())
    del raw["rope_parameters"], raw["transformers_version"]
    inputs = random_inputs(theirs.config, 1, [40, 9])
    real = inputs["attention_mask"].bool()
    for stretched in (scaling, {"type": "linear", "factor": 2.5}, None):
        (tmp_path / "config.json").write_text(json.dumps({**raw, "rope_theta": 500.0, "rope_scaling": stretched}))
        theirs, ours = type(theirs).from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)
        close(ours(**inputs).last_hidden_state[real], theirs(**inputs).last_hidden_state[real], 1e-5)
        ours.save_pretrained(tmp_path / "again")
        again = type(theirs).from_pretrained(tmp_path / "again")
        assert again.config.rope_parameters == theirs.config.rope_parameters
        assert torch.equal(again(**inputs).last_hidden_state, theirs(**inputs).last_hidden_state)


REFUSED = [
    ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic' is not supported; supported: default, linear, llama3"),
    ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}, "'yarn' is not supported"),
    ("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 2.0}}, "low_freq_factor=None must be a number above 0"),
    ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor=0 must be a number above 0"),
    ("llama", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "a partial_rotary_factor is not supported"),
    ("llama", {"rope_parameters": {"rope_theta": None}}, "rope_theta=None must be a number above 0"),
    ("llama", {"num_key_value_heads": 3}, "4 attention heads are not a multiple of the 3 heads of keys"),
    ("qwen2", {"use_sliding_window": True}, "use_sliding_window=True changes the computation"),
    ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, "'sliding_attention' are not supported for qwen3"),
    ("mistral", {"sliding_window": 0}, "sliding_window=0 must be a whole number, 1 or more"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True changes the computation"),
    ("ctrl", {"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon=1e-05 changes the computation"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_what_would_change_the_numbers_of_a_decoder_is_refused_by_name(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    their_config(name).save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**raw, **changes}))
    with pytest.raises(unpad.CheckpointError) as caught:
        AutoConfig.from_pretrained(tmp_path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", DECODERS)
def test_an_untied_vocabulary_is_not_taken_for_the_token_embedding(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, ours = both(name, "causal-lm", tmp_path, tie_word_embeddings=False)
    assert torch.equal(ours.head.table.weight, theirs.lm_head.weight)
    assert not torch.equal(ours.head.table.weight, ours.transformer.embeddings.tokens.weight)
    capsys.readouterr()
    base = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(base.transformer.embeddings.tokens.weight, ours.transformer.embeddings.tokens.weight)
    assert "not used from the file: lm_head" in capsys.readouterr().err


@pytest.mark.parametrize("name", DECODERS)
def test_old_files_of_decoders_load_without_a_word_about_copies_and_masks(name: str, tmp_path: Path) -> None:
    theirs, ours = both(name, "causal-lm", tmp_path, tie_word_embeddings=True)
    prefix = f"{theirs.base_model_prefix}."
    old = {
        key.removeprefix(prefix): value for key, value in theirs.state_dict().items()
    }  # as the first GPT-2 was saved
    buffers = ["layers.0.self_attn.rotary_emb.inv_freq"] if prefix == "model." else []
    buffers = {"gpt2": ["h.0.attn.bias", "h.0.attn.masked_bias"], "openai-gpt": ["h.1.attn.bias"]}.get(name, buffers)
    copy, kept = next(iter(family(name).copies.items()))
    old |= {copy: old[kept.removeprefix(prefix)], **{buffer: torch.ones(4) for buffer in buffers}}
    (tmp_path / "model.safetensors").unlink()
    for absent in ("", copy, kept.removeprefix(prefix)):
        torch.save({key: value for key, value in old.items() if key != absent}, tmp_path / "pytorch_model.bin")
        again = unpad.AutoModelForCausalLM.from_pretrained(tmp_path)
        assert not again.load_report.new and not again.load_report.unexpected
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), ours.parameters(), strict=True))


@pytest.mark.parametrize("name", [*DECODERS])
def test_every_head_of_a_decoder_starts_from_its_base_whatever_head_the_file_has(name: str, tmp_path: Path) -> None:
    for saved in family(name).heads:
        _, ours = both(name, saved, tmp_path / saved, tie_word_embeddings=True)
        tokens = ours.transformer.embeddings.tokens.weight
        for head in family(name).heads:
            again = getattr(auto, family(name).class_name(head)).from_pretrained(tmp_path / saved)
            assert torch.equal(again.transformer.embeddings.tokens.weight, tokens)
            assert all(new.startswith("head.") for new in again.load_report.new)


@pytest.mark.parametrize("name", DECODERS)
def test_new_decoders_are_drawn_as_in_transformers(name: str) -> None:
    torch.manual_seed(0)
    wide = 0.02 if name == "openai-gpt" else 0.05  # theirs draws the matrices of GPT with 0.02 whatever it is told
    size = {"hidden_size": 64, "num_hidden_layers": 6, "initializer_range": wide, "tie_word_embeddings": False}
    theirs = their_class(name, "causal-lm")(their_config(name, **size))
    ours = unpad.AutoModelForCausalLM.from_config(AutoConfig.for_model(name).replace(
        **{k: v for k, v in theirs.config.to_dict().items() if k in family(name).fields}))  # fmt: skip
    stds = {n: p.std().item() for n, p in theirs.named_parameters()}
    for n, p in ours.named_parameters():
        for their_name in ours.family.rule(n, "causal-lm", ours.config)[1]:
            assert abs(p.std().item() - stds[their_name]) < 0.15 * stds[their_name] + 1e-6, n


def test_sinusoidal_positions_start_as_in_transformers() -> None:
    theirs = transformers.DistilBertModel(their_config("distilbert", sinusoidal_pos_embds=True))
    ours = unpad.DistilBertModel(
        unpad.DistilBertConfig(dim=32, n_heads=4, n_layers=1, max_position_embeddings=40, sinusoidal_pos_embds=True)
    )  # fmt: skip
    close(ours.transformer.embeddings.positions.weight, theirs.embeddings.position_embeddings.weight, 1e-6)


def test_a_padding_id_that_positions_need_is_asked_for() -> None:
    with pytest.raises(unpad.ArgumentError, match="pad_token_id=None, but positions are counted from it"):
        unpad.RobertaConfig(pad_token_id=None)
