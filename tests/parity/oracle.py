"""One helper for all families and heads: our model against `transformers`, on the same weights and inputs.

Logits and loss within 1e-5, gradients within 1e-4 (fp32), configuration and weights round-trip both ways, packed equals padded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from unpad import batch as unpad_batch
from unpad.checkpoint.save import to_theirs
from unpad.models import auto


def random_inputs(config: Any, seed: int, lengths: list[int]) -> dict[str, torch.Tensor]:
    """Padded tensors [B, S] with rows of the given lengths."""
    rng = np.random.default_rng(seed)
    rows, longest = len(lengths), max(lengths)
    ids = rng.integers(1, config.vocab_size, size=(rows, longest))
    types = rng.integers(0, config.type_vocab_size, size=(rows, longest))
    mask = np.arange(longest)[None, :] < np.asarray(lengths)[:, None]
    return {
        "input_ids": torch.from_numpy(ids * mask),
        "token_type_ids": torch.from_numpy(types * mask),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)),
    }


def packed(inputs: dict[str, torch.Tensor], labels: torch.Tensor | None = None) -> unpad_batch.PackedBatch:
    """The same rows through the collator's way of packing."""
    lengths = inputs["attention_mask"].sum(1).tolist()
    return unpad_batch.pack(
        [row[:n].numpy() for row, n in zip(inputs["input_ids"], lengths, strict=True)],
        [row[:n].numpy() for row, n in zip(inputs["token_type_ids"], lengths, strict=True)],
        labels=None if labels is None else labels.numpy(),
    )


def check_head(
    theirs: Any, class_name: str, inputs: dict[str, torch.Tensor], labels: torch.Tensor | None, folder: Path
) -> None:
    """`theirs` (a transformers model) and ours agree in every way that the contract names."""
    theirs.save_pretrained(folder / "theirs")
    ours = getattr(auto, class_name).from_pretrained(folder / "theirs")
    assert not ours.load_report.new and not ours.load_report.unexpected
    theirs.eval()
    extra = {} if labels is None else {"labels": labels}
    expected = theirs(**inputs, **extra)
    padded = ours(**inputs, **extra)
    batch = packed(inputs, labels)
    native = ours(batch)

    if labels is None:
        real = inputs["attention_mask"].bool()
        close(padded.last_hidden_state[real], expected.last_hidden_state[real], 1e-5)
        close(padded.pooler_output, expected.pooler_output, 1e-5)
        close(batch.restore(native.pooler_output), expected.pooler_output, 1e-5)
        close(batch.pad(native.last_hidden_state)[real], expected.last_hidden_state[real], 1e-5)
        loss, their_loss = padded.pooler_output.square().sum(), expected.pooler_output.square().sum()
    else:
        close(padded.logits, expected.logits, 1e-5)
        close(batch.restore(native.logits), expected.logits, 1e-5)
        close(padded.loss, expected.loss, 1e-5)
        close(native.loss, expected.loss, 1e-5)
        close(native.loss_sum / native.loss_count, expected.loss, 1e-5)
        loss, their_loss = native.loss, expected.loss
    loss.backward()
    their_loss.backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for name, grad in gradients_under_their_names(ours).items():
        if gradients[name] is not None:
            close(grad, gradients[name], 1e-4, name)

    ours.save_pretrained(folder / "ours")
    again, info = type(theirs).from_pretrained(folder / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    before = json.loads((folder / "theirs" / "config.json").read_text())
    after = json.loads((folder / "ours" / "config.json").read_text())
    for key in before:
        assert after.get(key) == before[key], f"config key {key}: {before[key]!r} became {after.get(key)!r}"


def gradients_under_their_names(ours: Any) -> dict[str, torch.Tensor]:
    """Gradients of our parameters, split and renamed by the same plan as weights."""
    saved = {name: p.data for name, p in ours.named_parameters()}
    present = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    absent = {n for p in saved if p not in present for n in ours.family.their_names(p, ours.head_name)}
    for name, p in ours.named_parameters():
        p.data = present.get(name, torch.zeros_like(p))
    out = {
        name: t.clone()
        for name, t in to_theirs(ours, ours.family, ours.head_name).items()
        if name not in absent
    }
    for name, p in ours.named_parameters():
        p.data = saved[name]
    return out


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float, what: str = "") -> None:
    torch.testing.assert_close(
        ours.float(), theirs.float(), atol=tolerance, rtol=tolerance, msg=lambda m: f"{what}: {m}"
    )


def bert_config(**changes: Any) -> transformers.BertConfig:
    """A random small BERT."""
    small = {"vocab_size": 101, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
             "max_position_embeddings": 40}  # fmt: skip
    return transformers.BertConfig(**{**small, **changes})
