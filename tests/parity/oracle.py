"""One helper for all families and heads: our model against `transformers`, on the same weights and inputs.

Logits and loss within 1e-5, gradients within 1e-4 (fp32), configuration and weights round-trip both ways, packed equals padded.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from unpad import batch as unpad_batch
from unpad.checkpoint.save import to_theirs
from unpad.core.heads import HEADS
from unpad.families import family
from unpad.models import auto

SMALL = {"vocab_size": 101, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
         "max_position_embeddings": 40}  # fmt: skip
CHOICES = 3
STORED = {"transfo-xl": "test_transfo_xl.py"}
"""Family that today's `transformers` has no more -> the test that compares it with stored numbers of an older release."""


def random_inputs(config: Any, seed: int, lengths: list[int]) -> dict[str, torch.Tensor]:
    """Padded tensors [B, S] with rows of the given lengths; segments where the family has some."""
    rng = np.random.default_rng(seed)
    rows, longest = len(lengths), max(lengths)
    special = max(config.pad_token_id or 0, 0) + 1
    ids = rng.integers(special, config.vocab_size, size=(rows, longest))
    types = rng.integers(0, max(getattr(config, "type_vocab_size", 0), 1), size=(rows, longest))
    mask = np.arange(longest)[None, :] < np.asarray(lengths)[:, None]
    inputs = {
        "input_ids": torch.from_numpy(np.where(mask, ids, config.pad_token_id or 0)),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)),
    }
    if getattr(config, "type_vocab_size", 0) > 0:
        inputs["token_type_ids"] = torch.from_numpy(types * mask)
    return inputs


def random_labels(config: Any, head: str, inputs: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """Labels of the kind that a head learns from; some tokens have none."""
    draw = torch.Generator().manual_seed(seed)
    mask, rows = inputs["attention_mask"], len(inputs["input_ids"])
    kind = HEADS[head]
    if kind.labels == "row":
        return {"labels": torch.randint(0, config.num_labels, (rows,), generator=draw)}
    if kind.labels == "choice":
        return {"labels": torch.randint(0, CHOICES, (rows // CHOICES,), generator=draw)}
    if kind.labels == "span":
        return {
            name: (torch.rand(rows, generator=draw) * mask.sum(1)).long()
            for name in ("start_positions", "end_positions")
        }
    if kind.labels == "token":
        binary = head == "pre-training"
        top = 2 if binary else config.vocab_size if kind.vocabulary else config.num_labels
        labels = torch.randint(0, top, mask.shape, generator=draw)
        ignored = (mask == 0) if binary else (mask == 0) | (torch.rand(mask.shape, generator=draw) < 0.6)
        return {"labels": labels if binary else labels.masked_fill(ignored, -100)}
    return {}


def packed(
    inputs: dict[str, torch.Tensor], labels: torch.Tensor | None = None, per_token: bool = False
) -> unpad_batch.PackedBatch:
    """The same rows through the collator's way of packing."""
    lengths = inputs["attention_mask"].sum(1).tolist()
    types = inputs.get("token_type_ids")
    cut = lambda rows: [row[:n].numpy() for row, n in zip(rows, lengths, strict=True)]  # noqa: E731
    return unpad_batch.pack(
        cut(inputs["input_ids"]),
        None if types is None else cut(types),
        labels=None if labels is None or per_token else labels.numpy(),
        token_labels=cut(labels) if per_token and labels is not None else None,
    )


def native_batch(
    head: str, inputs: dict[str, torch.Tensor], labels: dict[str, torch.Tensor]
) -> unpad_batch.PackedBatch:
    kind = HEADS[head].labels
    if kind == "choice":
        return replace(packed(inputs), labels=labels["labels"], choices=CHOICES)
    if kind == "span":
        return packed(inputs, torch.stack([labels["start_positions"], labels["end_positions"]], 1))
    return packed(inputs, labels.get("labels"), per_token=kind == "token")


def check_head(
    theirs: Any, head: str, inputs: dict[str, torch.Tensor], labels: dict[str, torch.Tensor], folder: Path
) -> None:
    """`theirs` (a transformers model) and ours agree in every way that the contract names."""
    theirs.save_pretrained(folder / "theirs")
    kind = HEADS[head]
    ours = getattr(
        auto, "AutoModel" if head == "base" else f"Auto{kind.suffix.replace('For', 'ModelFor')}"
    ).from_pretrained(folder / "theirs")
    assert not ours.load_report.new and not ours.load_report.unexpected
    theirs.eval()
    batch = native_batch(head, inputs, labels)
    if kind.labels == "choice":
        inputs = {name: value.view(-1, CHOICES, value.shape[-1]) for name, value in inputs.items()}
    expected, padded, native = theirs(**inputs, **labels), ours(**inputs, **labels), ours(batch)
    real = inputs["attention_mask"].bool()
    if head == "base":
        hidden = expected.last_hidden_state
        close(padded.last_hidden_state[real], hidden[real], 1e-5)
        close(batch.pad(native.last_hidden_state)[real], hidden[real], 1e-5)
        loss, their_loss = native.last_hidden_state.square().sum(), hidden[real].square().sum()
        assert (padded.pooler_output is None) == (getattr(expected, "pooler_output", None) is None)
        if padded.pooler_output is not None:
            close(padded.pooler_output, expected.pooler_output, 1e-5)
            close(batch.restore(native.pooler_output), expected.pooler_output, 1e-5)
            loss, their_loss = loss + native.pooler_output.sum(), their_loss + expected.pooler_output.sum()
    else:
        if kind.labels == "span":
            for name in ("start_logits", "end_logits"):
                close(padded[name][real], expected[name][real], 1e-5)
            both = torch.stack([expected.start_logits, expected.end_logits], -1)
            close(batch.pad(native.logits)[real], both[real], 1e-5)
        elif kind.vocabulary:
            close(padded.logits[real], expected.logits[real], 1e-5)
            where = (batch.labels != -100).nonzero().view(-1)
            asked = ours(replace(batch, labels=None, asked=where)).logits  # with labels there is only the loss
            order = list(batch.order)
            close(asked, expected.logits[order][real[order]][where], 1e-5)
        elif kind.labels == "token":
            close(padded.logits[real], expected.logits[real], 1e-5)
            close(batch.pad(native.logits)[real], expected.logits[real], 1e-5)
        else:
            close(padded.logits, expected.logits, 1e-5)
            close(native.logits if kind.labels == "choice" else batch.restore(native.logits), expected.logits, 1e-5)
        close(native.loss, padded.loss, 1e-5)
        close(native.loss_sum / native.loss_count, native.loss, 1e-6)
        loss, their_loss = native.loss, expected.loss
        if kind.labels == "span":  # their softmax runs over padding too
            their_loss = span_loss_without_padding(expected, labels, real)
        close(loss, their_loss, 1e-5)
    loss.backward()
    their_loss.backward()
    check_gradients_and_files(theirs, ours, folder)


def check_gradients_and_files(theirs: Any, ours: Any, folder: Path) -> None:
    """Gradients are the same; so are weights and configuration of `theirs`, saved in folder/theirs, after we have written them."""
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    compared = 0
    for name, grad in gradients_under_their_names(ours).items():
        if gradients.get(name) is not None:
            close(grad, gradients[name], 1e-4, name)
            compared += 1
    assert compared > 0.7 * len([g for g in gradients.values() if g is not None]), "most gradients are compared by name"

    ours.save_pretrained(folder / "ours")
    again, info = type(theirs).from_pretrained(folder / "ours", output_loading_info=True)
    missing = [name for name in info["missing_keys"] if "embed_positions" not in name]  # sines, which they make anew
    assert not missing and not info["unexpected_keys"] and not info["mismatched_keys"], info
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    before = json.loads((folder / "theirs" / "config.json").read_text())
    after = json.loads((folder / "ours" / "config.json").read_text())
    for key in before:
        assert after.get(key) == before[key], f"config key {key}: {before[key]!r} became {after.get(key)!r}"
    read = again.config.to_dict()
    for key, value in theirs.config.to_dict().items():
        told = key in ("_name_or_path", "problem_type")  # by the folder, by the labels seen
        assert told or read[key] == value, f"{key} is {read[key]!r} to transformers, not {value!r}"


def span_loss_without_padding(output: Any, labels: dict[str, torch.Tensor], real: torch.Tensor) -> torch.Tensor:
    """The field's loss of an answer span, over the tokens that are there."""
    ends = zip((output.start_logits, output.end_logits), labels.values(), strict=True)
    losses = [
        torch.nn.functional.cross_entropy(logits.masked_fill(~real, -torch.inf), places) for logits, places in ends
    ]
    return (losses[0] + losses[1]) / 2


def gradients_under_their_names(ours: Any) -> dict[str, torch.Tensor]:
    """Gradients of our parameters, split and renamed by the same plan as weights."""
    saved = {name: p.data for name, p in ours.named_parameters()}
    present = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    absent = {n for p in saved if p not in present for n in ours.family.rule(p, ours.head_name, ours.config)[1]}
    for name, p in ours.named_parameters():
        p.data = present.get(name, torch.zeros_like(p))
    out = {
        name: t.clone()
        for name, t in to_theirs(ours, ours.config, ours.family, ours.head_name).items()
        if name not in absent
    }
    for name, p in ours.named_parameters():
        p.data = saved[name]
    return out


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float, what: str = "") -> None:
    torch.testing.assert_close(
        ours.float(), theirs.float(), atol=tolerance, rtol=tolerance, msg=lambda m: f"{what}: {m}"
    )


def their_class(model_type: str, head: str) -> type:
    """The class of `transformers` with the same name."""
    found: type = getattr(transformers, family(model_type).class_name(head))
    return found


def bert_config(**changes: Any) -> transformers.BertConfig:
    """A random small BERT."""
    return transformers.BertConfig(**{**SMALL, **changes})
