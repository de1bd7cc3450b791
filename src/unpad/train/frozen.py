"""`freeze="base"`: the pretrained part stays as it is, so its vectors are computed once, kept on disk, and the head trains on them.

N rows, B sequences of a batch, T tokens, D width. The base runs in evaluation mode (no dropout in it); dropout of the head stays. Heads
that read one vector per sequence get a file [N, D] (multiple choice: one for each choice), heads per token [all tokens, D].
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unpad.batch import PackedBatch
from unpad.checkpoint.files import writing_to
from unpad.core.heads import pooled
from unpad.data.sampler import token_budget_batches
from unpad.data.tokens import TokenStore
from unpad.engine.accelerator import Accelerator
from unpad.errors import ArgumentError
from unpad.notices import say
from unpad.train.arguments import TrainingArguments

FOLDER = "vectors"
"""Below the output folder: one file for the training data and one for the evaluation data."""
ASIDE = ("id2label", "problem_type", "architectures", "names", "extra", "initializer_range", "init_cutoff")
"""Fields of the configuration that, like dropouts, change no vector of a base that is there."""


class FrozenBase:
    """The vectors of a model's base for the data sets of a run.

    Files are named by a hash of data, weights and precision: another run in the same folder reads them, edited data or another model
    computes anew.
    """

    def __init__(self, model: Any, folder: Path, engine: Accelerator, max_tokens: int) -> None:
        self.model, self.folder, self.engine, self.max_tokens = model, folder / FOLDER, engine, max_tokens
        self._known: dict[str, tuple[Any, np.ndarray]] = {}

    def filler(self, store: TokenStore, split: str) -> Callable[[PackedBatch], PackedBatch]:
        """What puts the vectors into batches of the store; they are computed or read when the first batch comes."""
        many = self.engine.num_processes > 1  # the main one writes, and all wait for it here
        values: np.ndarray | None = self._values(store, split) if many else None
        starts = np.cumsum(store.lengths) - store.lengths

        def fill(batch: PackedBatch) -> PackedBatch:
            nonlocal values
            values = self._values(store, split) if values is None else values
            places = _sequences(batch)
            if self._per_token:
                spans = zip(starts[places].tolist(), batch.lengths, strict=True)
                found = np.concatenate([values[start : start + count] for start, count in spans])
            else:
                found = np.array(values[places])
            return replace(batch, hidden=torch.from_numpy(found).to(self.model.dtype))

        return fill

    @property
    def _per_token(self) -> bool:
        return self.model.head.reads == "each"

    def _values(self, store: TokenStore, split: str) -> np.ndarray:
        """The vectors of all sequences (or tokens) in the order of the store, in fp32, as a view of the file."""
        weights = list(self.model.transformer.parameters())
        state = (id(store), [(p.data_ptr(), p._version) for p in weights])
        if split in self._known and self._known[split][0] == state:
            return self._known[split][1]
        config, digest = self.model.config, hashlib.blake2b(store.fingerprint.encode(), digest_size=8)
        facts = {n: v for n, v in vars(config).items() if n not in ASIDE and not n.endswith("dropout")}
        digest.update(repr((facts, self.model.head.reads, store.choices, self.engine.precision.name)).encode())
        for weight in weights:
            digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy())
        path = self.folder / f"{split}-{digest.hexdigest()}.npy"
        shape = (store.tokens if self._per_token else len(store) * store.choices, config.width)
        if self.engine.world.on_main(lambda: _opened(path, shape) is not None):
            say(f"{split}: the vectors of the frozen base are read from {path}")
        else:
            megabytes = 4e-6 * shape[0] * shape[1]
            say(f"{split}: the frozen base computes its vectors once, kept in {path} ({megabytes:,.1f} MB)")
            self.engine.world.on_main(lambda: self._replace(path, store, shape, split))
        values = _opened(path, shape)
        assert values is not None
        self._known[split] = (state, values)
        return values

    def _replace(self, path: Path, store: TokenStore, shape: tuple[int, int], split: str) -> None:
        with writing_to(path):
            self._write(path, store, shape)
        for other in set(self.folder.glob(f"{split}-*.npy")) - {path}:
            other.unlink()  # of data or weights that are gone

    def _write(self, path: Path, store: TokenStore, shape: tuple[int, int]) -> None:
        """Compute all vectors, longest rows first, and write each to its place; the file gets its name when it is whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        beside, base = path.with_name(f".{path.name}.tmp"), self.model.transformer
        training = base.training
        base.eval()
        try:
            with open(beside, "wb") as file, torch.no_grad():
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                begin = file.tell()
                starts = np.cumsum(store.lengths) - store.lengths
                for rows in token_budget_batches(store.lengths, self.max_tokens):
                    batch = store.pack(rows)
                    with self.engine.autocast():
                        hidden = base(batch.to(self.engine.device), self.model.head.rows(batch))
                        if not self._per_token:
                            hidden = pooled(hidden, batch, self.model.head.reads)
                    vectors = hidden.float().cpu().numpy().astype("<f4", copy=False)
                    counts = batch.lengths if self._per_token else (1,) * len(batch)
                    parts = np.split(vectors, np.cumsum(counts)[:-1])
                    for place, part in zip(_sequences(batch), parts, strict=True):
                        first = int(starts[place] if self._per_token else place)
                        file.seek(begin + 4 * first * shape[1])
                        file.write(part.tobytes())
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            base.train(training)
            beside.unlink(missing_ok=True)


def _opened(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The vectors in a file, as a view of it; None where it is not there or not whole."""
    try:
        values = np.load(path, mmap_mode="r")
    except (OSError, ValueError):
        return None
    return values if values.shape == shape else None


def _sequences(batch: PackedBatch) -> np.ndarray:
    """[B] numbers of the sequences of a batch in its store, in the order of the batch."""
    rows = np.asarray(batch.sample_ids)
    if batch.choices == 1:
        return rows
    every = rows[:, None] * batch.choices + np.arange(batch.choices)
    return every.ravel()[np.asarray(batch.order)]


def frozen_base(model: Any, args: TrainingArguments, engine: Accelerator, packs: bool) -> FrozenBase | None:
    """What `args.freeze` asks for; None where it asks for nothing. `packs`: batches come without padding, from the token store.

    Raises ArgumentError for models and collators whose inputs are not the same in every epoch.
    """
    if args.freeze is None:
        return None
    if not packs or model.vocabulary or model.head_name == "base" or model.is_encoder_decoder:
        what = model.class_name if packs else "a model or collator of your own"
        raise ArgumentError(
            f"freeze='base' does not work with {what}: it needs an encoder or decoder with a head that reads the same texts in every epoch; leave it out and set "
            "requires_grad=False on the parameters to freeze"
        )
    if engine.strategy.sharded:
        raise ArgumentError("freeze='base' trains the head alone, and each process keeps it whole; leave fsdp out")
    model.transformer.requires_grad_(False)
    return FrozenBase(model, Path(args.output_dir), engine, args.eval_max_tokens)
