"""Masks hide what they should, as often as they should, and tell the truth in their labels.

Shares are judged at five standard deviations: a right implementation fails such a line for one generator in 1.7 million.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unpad.data.masking import choose_words, drawn, generator_of, generator_of_torch, mask_tokens

VOCAB, SPECIAL, MASK = 50, (0, 2, 3, 49), 2
ORDINARY = np.setdiff1d(np.arange(VOCAB), SPECIAL)


def assert_share(hits, of, share):
    assert abs(hits - of * share) <= 5 * np.sqrt(of * share * (1 - share)), f"{hits / of:.4f} is not {share}"


@st.composite
def sentences(draw):
    """(ids, maskable, words) of up to 60 tokens: words of 1 to 4 tokens, some tokens not maskable."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = rng.integers(1, 5, draw(st.integers(0, 15)))
    words = np.repeat(rng.permutation(len(sizes)), sizes)
    ids = rng.choice(ORDINARY, len(words))
    maskable = rng.random(len(words)) < draw(st.sampled_from([0.0, 0.7, 1.0]))
    ids[~maskable] = rng.choice(SPECIAL, (~maskable).sum())
    return ids, maskable, words


def mask(ids, maskable, probability, seed, words=None, **shares):
    return mask_tokens(
        ids, maskable, probability, MASK, VOCAB, SPECIAL, drawn(np.random.default_rng(seed), maskable), words, **shares
    )


@settings(max_examples=200)
@given(sentences(), st.floats(0, 1), st.integers(0, 2**32), st.booleans())
def test_labels_are_the_originals_and_the_rest_stays(sentence, probability, seed, whole):
    ids, maskable, words = sentence
    before = ids.copy()
    new, labels = mask(ids, maskable, probability, seed, words if whole else None)
    chosen = labels != -100
    assert ids.tolist() == before.tolist(), "the input is not written to"
    assert not (chosen & ~maskable).any(), "special tokens and padding are never chosen"
    assert labels[chosen].tolist() == ids[chosen].tolist()
    assert new[~chosen].tolist() == ids[~chosen].tolist()
    assert set(new[chosen].tolist()) <= {MASK, *ORDINARY.tolist()}
    assert new.dtype == labels.dtype == np.int64


@settings(max_examples=200)
@given(sentences(), st.floats(0, 1), st.integers(0, 2**32))
def test_words_are_chosen_whole_and_up_to_the_share(sentence, probability, seed):
    _, maskable, words = sentence
    maskable |= np.isin(words, words[maskable])  # no word is special in part
    chosen = choose_words(maskable, words, probability, drawn(np.random.default_rng(seed), maskable))
    for word in set(words.tolist()):
        assert len(set(chosen[words == word].tolist())) == 1
    assert probability * maskable.sum() - 4 < chosen.sum() < probability * maskable.sum() + 4


@given(sentences(), st.integers(0, 2**32), st.booleans(), st.integers(1, 9))
def test_padding_changes_no_mask(sentence, seed, whole, size):
    ids, maskable, words = sentence
    alone = mask(ids, maskable, 0.5, seed, words if whole else None)
    for before, after in ((0, size), (size, 0)):
        wide = [np.pad(a, (before, after), constant_values=c) for a, c in ((ids, 0), (maskable, False), (words, -1))]
        padded = mask(wide[0], wide[1], 0.5, seed, wide[2] if whole else None)
        for got, want in zip(padded, alone, strict=True):
            assert got[before : before + len(ids)].tolist() == want.tolist()


def test_15_percent_are_chosen_and_of_these_80_10_10_become_mask_other_and_same():
    rng = np.random.default_rng(1)
    ids = rng.choice(ORDINARY, 400_000)
    maskable = rng.random(len(ids)) < 0.9
    new, labels = mask(ids, maskable, 0.15, seed=2)
    chosen = labels != -100
    assert_share(chosen.sum(), maskable.sum(), 0.15)
    masked = new[chosen] == MASK
    assert_share(masked.sum(), chosen.sum(), 0.8)
    # one random token in 46 is the original one
    assert_share((new[chosen] == ids[chosen]).sum(), chosen.sum(), 0.1 + 0.1 / len(ORDINARY))
    others = new[chosen & (new != MASK) & (new != ids)]
    assert_share(len(others), chosen.sum(), 0.1 * (1 - 1 / len(ORDINARY)))
    assert scipy.stats.chisquare(np.bincount(others, minlength=VOCAB)[ORDINARY]).pvalue > 1e-6
    # choices do not depend on place or neighbours
    assert_share((chosen[1:] & chosen[:-1]).sum(), len(ids) - 1, 0.135**2)


def test_other_shares_are_kept():
    ids = np.full(100_000, 7)
    everything = np.ones(len(ids), dtype=bool)
    new, labels = mask(ids, everything, 0.4, seed=3, mask_share=0.5, random_share=0.3)
    assert_share((labels == 7).sum(), len(ids), 0.4)
    assert_share((new == MASK).sum(), (labels == 7).sum(), 0.5)
    assert_share(((new != MASK) & (new != 7)).sum(), (labels == 7).sum(), 0.3 * (1 - 1 / len(ORDINARY)))
    assert (mask(ids, everything, 1.0, seed=4, mask_share=1.0, random_share=0.0)[0] == MASK).all()
    assert (mask(ids, everything, 0.0, seed=5)[1] == -100).all()


@pytest.mark.parametrize("tokens", [4, 11, 40])
def test_short_rows_lose_the_same_share_to_whole_words(tokens):
    """15 percent of 4 tokens is no whole number, and words have several tokens: the mean is right all the same."""
    rng = np.random.default_rng(tokens)
    words = np.repeat(np.arange(tokens), rng.integers(1, 4, tokens))[:tokens]
    maskable = np.ones(tokens, dtype=bool)
    off = np.array(
        [choose_words(maskable, words, 0.15, drawn(rng, maskable)).sum() - 0.15 * tokens for _ in range(6000)]
    )
    assert abs(off.sum()) <= 5 * np.sqrt((off**2).sum())


def test_equal_word_numbers_that_are_not_neighbours_are_two_words():
    """Chunks of concatenated texts count their words anew in each text."""
    words = np.array([-1, 0, 0, -1, -1, 0, 0, 1])
    maskable = words >= 0
    seen = {
        tuple(choose_words(maskable, words, 0.4, drawn(np.random.default_rng(s), maskable)).tolist()) for s in range(50)
    }
    assert any(row[1] != row[5] for row in seen)
    assert all(row[1] == row[2] and row[5] == row[6] and not row[0] and not row[3] for row in seen)


def test_generators_follow_their_key_and_the_state_of_torch():
    draws = [
        generator_of(*key).integers(2**62) for key in ((1, b"a"), (1, b"a"), (2, b"a"), (1, b"b"), ((1, None), b"a"))
    ]
    assert draws[0] == draws[1] and len(set(draws)) == 4
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = generator_of_torch().integers(2**62), generator_of_torch().integers(2**62)
    torch.set_rng_state(state)
    assert first != second
    assert generator_of_torch().integers(2**62) == first
