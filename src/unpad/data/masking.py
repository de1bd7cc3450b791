"""Masks for masked language modelling: which tokens are hidden, by what, and what the model should say there.

Pure functions on flat numpy arrays, and the places where their randomness comes from. T tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from unpad.batch import IGNORED_LABEL
from unpad.data.sampler import GOLDEN, key_of, mix

MASKS, DICE, OTHERS, LASTS = range(4)
"""What the four uniform numbers of a token decide: whether it is chosen, what hides it, which other token, and (the first of a row) the last word."""


def mask_tokens(
    ids: np.ndarray, maskable: np.ndarray, probability: float, mask_id: int, vocab_size: int, special_ids: Sequence[int],
    uniform: np.ndarray, words: np.ndarray | None = None, mask_share: float = 0.8, random_share: float = 0.1,
    rows: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Hide a share of the tokens of `ids` [T], as BERT was trained (Devlin et al., 2018), by the numbers `uniform` [4, T] in [0, 1).

    Each token that is `maskable` [T] is chosen with `probability`; of the chosen ones `mask_share` become `mask_id`,
    `random_share` any token that is not in `special_ids`, and the others stay. With `words` [T] (equal neighbours are
    one word) whole words are chosen in each of the `rows` [T], see `choose_words`. Returns new ids [T] and labels [T] int64: the
    original id where a token was chosen, elsewhere -100.
    """
    ids = ids.astype(np.int64)
    if words is None:
        chosen = maskable & (uniform[MASKS] < probability)
    else:
        chosen = choose_words(maskable, words, probability, uniform, rows)
    labels = np.where(chosen, ids, IGNORED_LABEL)
    places = np.flatnonzero(chosen)
    dice = uniform[DICE, places]
    ids[places[dice < mask_share]] = mask_id
    swapped = places[(dice >= mask_share) & (dice < mask_share + random_share)]
    ids[swapped] = _ordinary(uniform[OTHERS, swapped], vocab_size, special_ids)
    return ids, labels


def mask_rows(
    ids: Sequence[np.ndarray], maskable: Sequence[np.ndarray], words: Sequence[np.ndarray] | None, key: object, **how: Any
) -> tuple[list[np.ndarray], list[np.ndarray]]:  # fmt: skip
    """(Ids, labels) of several rows by `mask_tokens`, whose other arguments are `how`.

    With a `key` the mask of a row is a function of it and of the row's maskable tokens; None follows PyTorch's generator.
    """
    rng = generator_of_torch() if key is None else None
    pairs = []
    for i, (row, able) in enumerate(zip(ids, maskable, strict=True)):
        uniform = drawn(rng or generator_of(key, row[able].tobytes()), able)
        pairs.append(mask_tokens(row, able, uniform=uniform, words=None if words is None else words[i], **how))
    return [new for new, _ in pairs], [labels for _, labels in pairs]


def choose_words(
    maskable: np.ndarray, words: np.ndarray, probability: float, uniform: np.ndarray, rows: np.ndarray | None = None
) -> np.ndarray:
    """[T] bool: whole words of each row in random order, until `probability` of the row's maskable tokens are chosen.

    The word that reaches over that share is taken with the probability that makes the expected share exact. `rows` [T] rise from 0.
    """
    rows = np.zeros(len(words), np.int64) if rows is None else rows
    begins = np.ones(len(words), dtype=bool)
    for values in (words, maskable, rows):
        begins[1:] &= values[1:] == values[:-1]
    begins[1:] = ~begins[1:]
    word, heads = np.cumsum(begins) - 1, np.flatnonzero(begins)
    order = np.lexsort((uniform[MASKS, heads], rows[heads]))
    order = order[maskable[heads[order]]]
    sizes, row = np.bincount(word, minlength=len(heads))[order], rows[heads[order]]
    totals = np.bincount(row, sizes, minlength=1)
    before = np.cumsum(sizes) - sizes - (np.cumsum(totals) - totals)[row]
    able = np.flatnonzero(maskable)
    there, firsts = np.unique(rows[able], return_index=True)
    last = np.zeros(len(totals))
    last[there] = uniform[LASTS, able[firsts]]
    taken = np.zeros(len(heads), dtype=bool)
    taken[order] = before + last[row] * sizes < probability * totals[row]
    return taken[word]


def _ordinary(uniform: np.ndarray, vocab_size: int, special_ids: Sequence[int]) -> np.ndarray:
    """An id of the vocabulary for each of the numbers, none of them special, all others equally likely."""
    special = np.array(sorted({i for i in special_ids if 0 <= i < vocab_size}), dtype=np.int64)
    numbers = (uniform * (vocab_size - len(special))).astype(np.int64)
    # the n-th ordinary id is n plus the special ids below it
    return numbers + np.searchsorted(special - np.arange(len(special)), numbers, side="right")


def hashed(seed: int, epoch: int | None, rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """[4, T] uniform numbers for tokens at `positions` [T] of data rows `rows` [T]: a pure function of the four, by a hash of counters.

    Nothing is drawn in sequence, so that masks depend neither on batches nor on what was masked before.
    """
    state = np.array([key_of(f"masks|{seed}|{epoch}")], dtype=np.uint64)
    for counter in (rows, positions):
        state = mix(state + (counter.astype(np.uint64) + np.uint64(1)) * GOLDEN)
    numbers = mix(state + np.arange(1, 5, dtype=np.uint64)[:, None] * GOLDEN)
    return (numbers >> np.uint64(11)) * 2.0**-53


def drawn(rng: np.random.Generator, maskable: np.ndarray) -> np.ndarray:
    """[4, T] uniform numbers of a generator; tokens that are not `maskable` (padding, say) draw nothing."""
    uniform = np.zeros((4, len(maskable)))
    uniform[:, maskable] = rng.random((4, int(maskable.sum())))
    return uniform


def generator_of(key: object, content: bytes) -> np.random.Generator:
    """A generator that is a pure function of a short `key` (a number or a tuple of them) and of `content`."""
    digest = hashlib.blake2b(content, key=repr(key).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def generator_of_torch() -> np.random.Generator:
    """A generator from one draw of PyTorch's: `torch.manual_seed` and saved generator states govern what it gives."""
    import torch

    return np.random.default_rng(int(torch.empty((), dtype=torch.int64).random_()))
