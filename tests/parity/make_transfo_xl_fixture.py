"""Makes `transfo_xl.safetensors`: what Transformer-XL models of an old `transformers` compute, for `test_transfo_xl.py`.

Today's `transformers` has no Transformer-XL any more. Run this where an older one is installed:

    python -m venv old && old/bin/pip install "torch==2.13.0" "transformers==4.35.2" "numpy<2"
    old/bin/python tests/parity/make_transfo_xl_fixture.py                  # writes the fixture
    old/bin/python tests/parity/make_transfo_xl_fixture.py --check FOLDER   # reads models that unpad wrote, see `check`

Weights are not stored: each is drawn from a generator seeded by its name (`draw`), on both sides alike.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

FILE = Path(__file__).with_name("transfo_xl.safetensors")
SMALL = {"vocab_size": 40, "d_model": 12, "d_embed": 12, "n_head": 2, "d_head": 5, "d_inner": 18, "n_layer": 2, "mem_len": 6,
         "clamp_len": -1, "same_length": False, "div_val": 1, "cutoffs": [], "eos_token_id": 11, "pad_token_id": 39}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "published": {"cutoffs": [9, 20, 30], "div_val": 2, "clamp_len": 4, "same_length": True},
    "one-table": {"dropout": 0.2, "dropatt": 0.3},
    "parts-of-one-table": {"cutoffs": [9, 25], "same_length": True, "clamp_len": 3, "pre_lnorm": True, "untie_r": False},
    "projected": {"cutoffs": [14], "d_embed": 8, "untie_r": False, "layer_norm_epsilon": 1e-3, "mem_len": 3},
    "own-words": {"cutoffs": [9, 25], "d_embed": 8, "div_val": 2, "tie_word_embeddings": False,
                  "tie_projs": [False, False, True], "mem_len": 4},
    "own-projections": {"cutoffs": [14], "div_val": 3, "tie_projs": [False, False], "pre_lnorm": True, "clamp_len": 5},
    "no-memory": {"cutoffs": [9], "d_embed": 8, "mem_len": 0, "tie_projs": [True, True]},
}  # fmt: skip
"""Name -> how it differs from SMALL."""
LENGTHS = [[5, 5, 5], [3, 8, 1], [6, 2, 7]]
"""Tokens of each row in three consecutive segments; the first is run as one batch, the others row by row: nothing is padded."""
PROMPTS = [7, 1, 12, 3]
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"repetition_penalty": 1.3},
    "beams": {"num_beams": 3, "length_penalty": 0.0, "no_repeat_ngram_size": 2, "num_return_sequences": 2, "early_stopping": True},
}  # fmt: skip
"""Ways to write. Without a length penalty: since then beams count the tokens of the prompt no more."""


def draw(name: str, shape: list[int], std: float = 0.2) -> torch.Tensor:
    """The weight of this name, float32. `RandomState` gives the same numbers in every version of NumPy."""
    rng = np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF)
    return torch.from_numpy((rng.standard_normal(shape) * std).astype(np.float32))


def words(case: str, what: str, size: int) -> torch.Tensor:
    """int64 [1, size]: ids of a text, none of them for padding or the end."""
    rng = np.random.RandomState(zlib.crc32(f"{case}/{what}".encode()) & 0xFFFFFFFF)
    ids = rng.randint(0, SMALL["vocab_size"] - 2, size)
    return torch.from_numpy(np.where(ids == SMALL["eos_token_id"], SMALL["vocab_size"] - 2, ids).astype(np.int64))[None]


def filled(model: Any, std: float = 0.2) -> Any:
    with torch.no_grad():
        for name, p in model.named_parameters():  # names of tied parameters: the first, which files keep too
            p.copy_(draw(name, list(p.shape), std))
    model.tie_weights()
    return model.eval()


def saved(model: Any, folder: Path) -> dict[str, Any]:
    """config.json and the names and shapes of the weights as their `save_pretrained` writes them; under `copies` the names of weights
    that a pickle of theirs has once more -> the one that is kept."""
    model.save_pretrained(folder, safe_serialization=True)
    weights = load_file(folder / "model.safetensors")
    buffers = dict(model.named_buffers())
    for name, value in weights.items():
        assert name in buffers or torch.equal(value, draw(name, list(value.shape))), name
    names = {name: list(value.shape) for name, value in weights.items() if name not in buffers}
    assert set(weights) - set(names) == {n for n in buffers if n in weights}
    state = model.state_dict()
    kept = {state[name].data_ptr(): name for name in names}
    return {"config": json.loads((folder / "config.json").read_text()), "names": names,
            "copies": {name: kept[t.data_ptr()] for name, t in state.items() if name not in weights},
            "buffers": {n: list(weights[n].shape) for n in weights if n in buffers}}  # fmt: skip


def run(case: str, model: Any, head: str, out: dict[str, torch.Tensor]) -> None:
    """Three segments through the model, each with the memory of those before."""
    total, count = torch.zeros(()), 0
    memory: Any = None
    for number, lengths in enumerate(LENGTHS):
        texts = [words(case, f"{number}/{row}", size) for row, size in enumerate(lengths)]
        labels = [torch.where(ids % 5 == 2, -100, ids) for ids in texts]
        at = f"{case}/{head}/{number}"
        if number == 0:
            groups = [(slice(0, 3), torch.cat(texts), torch.cat(labels))]
        else:
            groups = [(slice(r, r + 1), ids, asked) for r, (ids, asked) in enumerate(zip(texts, labels, strict=True))]
        after = []
        for rows, ids, asked in groups:
            mine = None if memory is None else [m[:, rows] for m in memory]
            if head == "sequence-classification":  # a row ends before the first padding
                ids_and_end = torch.cat([ids, torch.full((len(ids), 1), SMALL["pad_token_id"])], 1)
                given, extra = ids_and_end, {"labels": torch.arange(rows.start, rows.start + len(ids)) % 3}
            else:
                given, extra = ids, {}
            with torch.set_grad_enabled(head == "sequence-classification"):
                answer = model(given, mems=mine, **extra)
            if head == "sequence-classification":
                out.setdefault(f"{at}/logits", []).append(answer.logits.detach())
                total, count = total + answer.loss * len(ids), count + len(ids)
                with torch.no_grad():
                    answer = model.transformer(ids, mems=mine)  # the memory without that padding
            else:
                for row, values in enumerate(answer.logits if head == "causal-lm" else answer.last_hidden_state):
                    out[f"{at}/{'logits' if head == 'causal-lm' else 'hidden'}/{rows.start + row}"] = values
            if head == "causal-lm" and (asked[:, 1:] != -100).any():  # theirs asks an end of a row that asks nothing
                losses = model(ids, mems=mine, labels=asked.clone()).losses
                total, count = total + losses.sum(), count + int((asked[:, 1:] != -100).sum())
            after.append(answer.mems)
        if after[0] is not None:
            memory = [torch.cat(parts, 1) for parts in zip(*after, strict=True)]
        if head == "sequence-classification":
            out[f"{at}/logits"] = torch.cat(out[f"{at}/logits"])
    if memory is not None and head != "sequence-classification":
        out[f"{case}/{head}/mems"] = torch.stack(memory)
    if head == "base":
        return
    (total / count).backward()
    out[f"{case}/{head}/loss"] = (total / count).detach()
    for name, p in model.named_parameters():
        if p.grad is not None and (head == "causal-lm" or name.startswith("score")):
            out[f"{case}/{head}/grad/{name}"] = p.grad.clone()


def write(case: str, model: Any, out: dict[str, torch.Tensor]) -> None:
    """What their `generate` makes of prompts, each alone: the new tokens, -1 after the last."""
    for way, options in WAYS.items():
        for number, size in enumerate(PROMPTS):
            found = model.generate(words(case, f"prompt/{number}", size), max_new_tokens=10, **options)
            new = torch.full((len(found), 10), -1, dtype=torch.int8)
            new[:, : found.shape[1] - size] = found[:, size:]
            out[f"{case}/{way}/{number}"] = new


def dropouts(model: Any, case: str) -> list[list[float]]:
    """[probability, size] of each dropout that has some, in one pass over the first segment."""
    struck: list[list[float]] = []
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) and module.p:
            module.register_forward_hook(lambda m, _, x: struck.append([m.p, x.numel()]))
    model.train()(torch.cat([words(case, f"0/{row}", size) for row, size in enumerate(LENGTHS[0])]))
    return struck


def main() -> None:
    import transformers
    from transformers import TransfoXLConfig, TransfoXLForSequenceClassification, TransfoXLLMHeadModel, TransfoXLModel

    out: dict[str, Any] = {}
    facts: dict[str, Any] = {
        "transformers": transformers.__version__,
        "cases": {},
        "defaults": TransfoXLConfig().to_dict(),
    }
    facts["dropouts"] = dropouts(TransfoXLModel(TransfoXLConfig(**{**SMALL, **CASES["one-table"]})), "one-table")
    for case, changes in CASES.items():
        config = TransfoXLConfig(**{**SMALL, **changes})
        model = filled(TransfoXLLMHeadModel(config))
        with tempfile.TemporaryDirectory() as folder:
            facts["cases"][case] = {"causal-lm": saved(model, Path(folder))}
        run(case, model, "causal-lm", out)
        write(case, filled(TransfoXLLMHeadModel(config), 0.6), out)
        if case in ("published", "parts-of-one-table"):
            for head, kind, more in (
                ("base", TransfoXLModel, {}),
                ("sequence-classification", TransfoXLForSequenceClassification, {"num_labels": 3}),
            ):
                other = filled(kind(TransfoXLConfig(**{**SMALL, **changes, **more})))
                with tempfile.TemporaryDirectory() as folder:
                    facts["cases"][case][head] = saved(other, Path(folder))
                run(case, other, head, out)
    tensors = {name: value.detach().contiguous() for name, value in out.items()}
    save_file(tensors, str(FILE), metadata={"facts": json.dumps(facts)})
    print(f"{FILE.name}: {FILE.stat().st_size} bytes, {len(tensors)} tensors")


def check(folder: Path) -> None:
    """Their model from each folder below `folder` that unpad wrote answers as the fixture says: missing and unexpected weights are
    none, and the first segment has the same logits."""
    from transformers import TransfoXLLMHeadModel

    with safe_open(str(FILE), framework="pt") as fixture:
        for case in CASES:
            model, info = TransfoXLLMHeadModel.from_pretrained(folder / case, output_loading_info=True)
            buffers = {name for name, _ in model.named_buffers()}
            assert set(info["missing_keys"]) <= buffers and not info["unexpected_keys"], (case, info)
            ids = torch.cat([words(case, f"0/{row}", size) for row, size in enumerate(LENGTHS[0])])
            found = model.eval()(ids).logits
            expected = torch.stack([fixture.get_tensor(f"{case}/causal-lm/0/logits/{row}") for row in range(len(ids))])
            print(f"{case}: largest difference {(found - expected).abs().max().item():.1e}")
            assert torch.allclose(found, expected, atol=1e-6), case


if __name__ == "__main__":
    check(Path(sys.argv[2])) if sys.argv[1:2] == ["--check"] else main()
