"""The order of training: every row once, the same for everyone who asks the same question, in whatever way they ask."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from unpad.data.sampler import BatchSampler, permute, token_budget_batches
from unpad.errors import ArgumentError

sizes = st.integers(1, 300)
lengths_lists = st.lists(st.integers(1, 60), min_size=1, max_size=250)


@st.composite
def samplers(draw: st.DrawFn) -> dict:
    """Arguments of a sampler of any kind."""
    lengths = draw(lengths_lists)
    mode = draw(st.sampled_from(["count", "group", "tokens"]))
    return {
        "size": len(lengths),
        "lengths": lengths,
        "batch_size": draw(st.integers(1, 20)) if mode != "tokens" else draw(st.none() | st.integers(1, 20)),
        "seed": draw(st.integers(0, 2**40)),
        "shuffle": draw(st.booleans()),
        "group_by_length": mode == "group",
        "max_tokens": draw(st.integers(1, 200)) if mode == "tokens" else None,
    }


@given(sizes, st.integers(-(2**70), 2**70))
def test_a_permutation_hits_every_row_once(size, key):
    assert sorted(permute(np.arange(size), size, key)) == list(range(size))


@given(st.integers(1, 10**15), st.integers(0, 2**64 - 1), st.data())
def test_a_permutation_answers_one_position_as_it_answers_many(size, key, data):
    places = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=5))
    many = permute(np.array(places), size, key)
    assert many.tolist() == [permute(np.array([p]), size, key).item() for p in places]
    assert all(0 <= v < size for v in many)
    assert len(set(many)) == len(set(places))


def test_a_permutation_refuses_positions_outside():
    for place in (-1, 5):
        with pytest.raises(IndexError, match=r"outside 0\.\.4"):
            permute(np.array([place]), 5, 1)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 7, 8])
def test_small_permutations_are_uniform_over_keys(size):
    """Chi-square over 4000 keys, for each position and each pair of positions.

    Keys are fixed, so the test is deterministic; were they drawn anew, one run in 1000 per size would fail by chance
    (0.001 shared among all its tests, Bonferroni).
    """
    keys = 4000
    drawn = np.stack([permute(np.arange(size), size, key * 7919) for key in range(keys)])
    tests = []
    for i in range(size):
        tests.append((np.bincount(drawn[:, i], minlength=size), keys / size))
    for i, j in itertools.combinations(range(size), 2):
        both = np.bincount(drawn[:, i] * size + drawn[:, j], minlength=size * size).reshape(size, size)
        assert np.trace(both) == 0
        tests.append((both[~np.eye(size, dtype=bool)], keys / (size * (size - 1))))
    for counts, expected in tests:
        statistic = float(((counts - expected) ** 2 / expected).sum())
        assert chi2.sf(statistic, len(counts) - 1) > 0.001 / len(tests)


def test_neighbours_of_a_large_permutation_are_unrelated():
    values = permute(np.arange(100_003), 100_003, 11)
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.015  # 4.7 standard deviations
    assert abs(np.corrcoef(values, np.arange(100_003))[0, 1]) < 0.015


@given(samplers(), st.integers(0, 5))
def test_every_row_occurs_exactly_once_in_an_epoch(arguments, epoch):
    rows = np.concatenate(list(BatchSampler(**arguments).epoch(epoch)))
    assert rows.dtype == np.int64
    assert sorted(rows) == list(range(arguments["size"]))


@given(samplers(), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**6)), min_size=1, max_size=8))
def test_a_batch_depends_on_nothing_that_was_asked_before(arguments, questions):
    used = BatchSampler(**arguments)
    for epoch, place in questions:
        k = place % used.batches(epoch)
        fresh = BatchSampler(**arguments)
        assert used.batch(epoch, k).tolist() == fresh.batch(epoch, k).tolist()
        assert fresh.batches(epoch) == used.batches(epoch)


@given(samplers(), st.integers(0, 3), st.data())
def test_seeking_gives_what_iterating_gives(arguments, epoch, data):
    sampler = BatchSampler(**arguments)
    whole = [b.tolist() for b in sampler.epoch(epoch)]
    start = data.draw(st.integers(0, len(whole)))
    assert [b.tolist() for b in BatchSampler(**arguments).epoch(epoch, start)] == whole[start:]


@given(st.integers(1, 300), st.integers(1, 20), st.integers(0, 9))
def test_drop_last_leaves_only_full_batches(size, batch_size, epoch):
    if size < batch_size:
        with pytest.raises(ArgumentError, match="leaves no batch"):
            BatchSampler(size, batch_size, seed=1, drop_last=True)
        return
    for shuffle, group in itertools.product([True, False], [True, False]):
        options = {"shuffle": shuffle, "group_by_length": group, "lengths": np.arange(size)}
        batches = list(BatchSampler(size, batch_size, seed=1, drop_last=True, **options).epoch(epoch))
        assert len(batches) == size // batch_size
        assert {len(b) for b in batches} == {batch_size}
        assert len(set(np.concatenate(batches))) == len(batches) * batch_size


def test_drop_last_does_not_always_drop_the_shortest_rows():
    lengths = np.arange(11)
    sampler = BatchSampler(11, 4, seed=1, drop_last=True, group_by_length=True, lengths=lengths)
    seen = {int(row) for epoch in range(20) for batch in sampler.epoch(epoch) for row in batch}
    assert seen == set(range(11))


@pytest.mark.parametrize("mode", [{}, {"group_by_length": True}, {"max_tokens": 300}])
def test_seed_fingerprint_and_epoch_each_change_the_order(mode):
    lengths = np.random.default_rng(0).integers(1, 60, 500)

    def order(epoch=0, seed=1, fingerprint="a"):
        sampler = BatchSampler(500, 8, seed=seed, fingerprint=fingerprint, lengths=lengths, **mode)
        return [b.tolist() for b in sampler.epoch(epoch)]

    orders = [order(), order(epoch=1), order(seed=2), order(fingerprint="b")]
    for one, other in itertools.combinations(orders, 2):
        assert one != other
        together = {frozenset(b) for b in one} & {frozenset(b) for b in other}
        assert len(together) < 5, "batches hold other rows together, not only in another order"
    assert order() == orders[0]


def test_the_order_of_a_released_version_never_changes():
    """Interrupted runs continue in this order: a change here is a break of their resume."""
    lengths = np.arange(40) % 7 + 1
    assert permute(np.arange(10), 10, 3).tolist() == [3, 5, 0, 9, 1, 2, 6, 8, 7, 4]
    assert BatchSampler(1000, 4, seed=7, fingerprint="f").batch(2, 100).tolist() == [414, 49, 96, 543]
    grouped = BatchSampler(40, 4, seed=7, lengths=lengths, group_by_length=True)
    assert grouped.batch(1, 3).tolist() == [6, 24, 31, 16]
    assert BatchSampler(40, None, seed=7, lengths=lengths, max_tokens=20).batch(1, 3).tolist() == [19, 25, 18, 23]


def test_without_shuffling_rows_come_in_their_own_order():
    assert [b.tolist() for b in BatchSampler(7, 3, seed=5, shuffle=False).epoch(4)] == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("mode", [{"batch_size": 3, "group_by_length": True}, {"batch_size": None, "max_tokens": 9}])
def test_without_shuffling_grouped_rows_come_by_falling_length(mode):
    lengths = np.array([2, 9, 4, 4, 1, 7, 3])
    rows = np.concatenate(list(BatchSampler(7, seed=5, shuffle=False, lengths=lengths, **mode).epoch(2)))
    assert rows.tolist() == [1, 5, 2, 3, 6, 0, 4]


def _spread(batches, lengths):
    """Tokens that padding each batch to its longest row would add, as a share of the real ones."""
    return sum(len(b) * lengths[b].max() for b in batches) / lengths.sum() - 1


@pytest.mark.parametrize("mode", [{"batch_size": 8, "group_by_length": True}, {"batch_size": None, "max_tokens": 400}])
def test_grouping_puts_similar_lengths_together(mode):
    lengths = np.random.default_rng(1).integers(5, 100, 4000)
    plain = _spread(BatchSampler(4000, 8, seed=1).epoch(0), lengths)
    grouped = _spread(BatchSampler(4000, seed=1, lengths=lengths, **mode).epoch(0), lengths)
    assert plain > 0.5
    assert grouped < 0.1


def test_a_grouped_epoch_is_not_sorted_by_length():
    lengths = np.random.default_rng(1).integers(5, 100, 4000)
    for mode in ({"batch_size": 8, "group_by_length": True}, {"batch_size": None, "max_tokens": 400}):
        longest = [lengths[b].max() for b in BatchSampler(4000, seed=1, lengths=lengths, **mode).epoch(0)]
        assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.25


@given(lengths_lists, st.integers(1, 200), st.none() | st.integers(1, 20), st.booleans())
def test_a_token_budget_is_exceeded_only_by_single_rows(lengths, budget, most, shuffle):
    lengths = np.array(lengths)
    sampler = BatchSampler(len(lengths), most, seed=3, lengths=lengths, max_tokens=budget, shuffle=shuffle)
    for batch in sampler.epoch(1):
        assert len(batch) == 1 or lengths[batch].sum() <= budget
        assert most is None or len(batch) <= most


@given(lengths_lists, st.integers(1, 200), st.none() | st.integers(1, 20))
def test_budget_batches_fall_in_length_and_leave_no_room_for_the_next_row(lengths, budget, most):
    lengths = np.array(lengths)
    batches = token_budget_batches(lengths, budget, most)
    rows = np.concatenate(batches)
    assert sorted(rows) == list(range(len(lengths)))
    assert (np.diff(lengths[rows]) <= 0).all()
    for batch, following in itertools.pairwise(batches):
        full = most is not None and len(batch) == most
        assert full or lengths[batch].sum() + lengths[following[0]] > budget


def test_no_rows_are_no_batches():
    assert token_budget_batches([], 10) == []


@settings(max_examples=20)
@given(st.integers(10**8, 10**12), st.integers(0, 10**4))
def test_seeking_in_a_huge_data_set_stores_nothing_of_its_size(size, step):
    sampler = BatchSampler(size, 8, seed=1)
    epoch, k = divmod(step * 10**6, sampler.batches())
    batch = sampler.batch(epoch, k)  # an array of the data's size would not fit in memory
    assert len(set(batch)) == len(batch)
    assert batch.max() < size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "at least one row"),
        ({"batch_size": 0}, "batch_size=0 must be 1 or more"),
        ({"batch_size": None}, "needs max_tokens="),
        ({"max_tokens": 0}, "max_tokens=0 must be 1 or more"),
        ({"max_tokens": 10}, "need lengths="),
        ({"group_by_length": True}, "need lengths="),
        ({"lengths": [1, 2]}, "2 entries for 9 rows"),
        ({"max_tokens": 5, "drop_last": True}, "drop_last=True has no meaning"),
    ],
)
def test_contradictory_arguments_are_one_clear_line(arguments, message):
    with pytest.raises(ArgumentError, match=message) as error:
        BatchSampler(**{"size": 9, "batch_size": 2, "seed": 1, **arguments})
    assert "\n" not in str(error.value)


def test_a_batch_outside_the_epoch_is_an_index_error():
    for k in (-1, 3):
        with pytest.raises(IndexError, match=r"batches 0\.\.2"):
            BatchSampler(9, 3, seed=1).batch(0, k)
