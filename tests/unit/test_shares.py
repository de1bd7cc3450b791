"""Who computes which rows of a step: every row once, the same work for everybody, and a page about scale that tells it as it is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unpad.data.sampler import BatchSampler, deal, shares

ROOT = Path(__file__).resolve().parents[2]
row_lengths = st.lists(st.integers(1, 3000), max_size=200)
few = st.integers(1, 24)


@st.composite
def limits(draw: st.DrawFn) -> dict[str, int]:
    """What limits a micro-batch: rows, tokens, or nothing."""
    name = draw(st.sampled_from(["max_rows", "max_tokens", None]))
    return {} if name is None else {name: draw(st.integers(1, 40) if name == "max_rows" else st.integers(1, 9000))}


def skewed(rows: int, seed: int) -> np.ndarray:
    """Lengths as web texts have them: most are short, a few are very long."""
    return np.random.default_rng(seed).lognormal(5, 1, rows).astype(np.int64) + 1


def tokens_of(lengths, part) -> int:
    return sum(lengths[place] for place in part)


@given(row_lengths, few)
def test_every_row_is_in_one_pile_and_piles_are_of_equal_size(lengths, piles):
    dealt = deal(lengths, piles)
    assert sorted(np.concatenate(dealt).tolist()) == list(range(len(lengths)))
    assert len(dealt) == piles and all(pile.dtype == np.int64 for pile in dealt)
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


@given(row_lengths, few)
def test_no_pile_has_more_tokens_than_another_and_a_row(lengths, piles):
    sums = [tokens_of(lengths, pile) for pile in deal(lengths, piles)]
    assert max(sums) - min(sums) <= max(lengths, default=0)


@given(st.integers(8, 64), st.integers(8, 40), st.integers(0, 2**32))
def test_the_fullest_pile_is_no_fuller_than_that_of_plain_splits(piles, each, seed):
    lengths = skewed(piles * each, seed)
    ours = max(tokens_of(lengths, pile) for pile in deal(lengths, piles))
    contiguous, strided = lengths.reshape(piles, each).sum(1).max(), lengths.reshape(each, piles).sum(0).max()
    assert ours <= min(contiguous, strided)


@pytest.mark.parametrize("scale", [1, 100])  # 100: lengths beyond 16 bits
def test_hardly_anyone_waits_at_a_thousand_ranks(scale):
    """Eight rows each: the fullest rank has a percent above the mean, and with a contiguous split everybody waits for half a step."""
    lengths = np.minimum(skewed(8192, 1), 1000) * scale
    sums = np.array([lengths[pile].sum() for pile in deal(lengths, 1024)])
    assert sums.max() < 1.01 * sums.mean()
    assert lengths.reshape(1024, 8).sum(1).max() > 1.9 * sums.mean()


def test_a_row_longer_than_a_share_is_joined_by_the_shortest():
    """Dealing by length alone gives the pile of the longest row some of each length."""
    lengths = [100, 50, 50, 50, 40, 40, 40, 40, 1, 1, 1, 1]
    piles = [sorted(lengths[place] for place in pile) for pile in deal(lengths, 4)]
    assert [1, 1, 100] in piles


@given(row_lengths, few, limits())
def test_every_row_is_computed_once_and_ranks_keep_step(lengths, ranks, most):
    parts = shares(lengths, ranks, **most)
    micros = [micro for part in parts for micro in part]
    assert sorted(np.concatenate(micros).tolist()) == list(range(len(lengths)))
    assert len(parts) == ranks and len({len(part) for part in parts}) == 1
    assert max(map(len, micros)) - min(map(len, micros)) <= 1


@given(row_lengths, few, limits())
def test_a_limit_never_changes_which_rows_a_rank_has(lengths, ranks, most):
    parts = shares(lengths, ranks, **most)
    mine = [sorted(np.concatenate(part).tolist()) for part in parts]
    assert mine == [sorted(pile.tolist()) for pile in deal(lengths, ranks)]


@given(row_lengths, few, st.integers(1, 40))
def test_a_limit_of_rows_holds_with_as_few_micro_batches_as_can_be(lengths, ranks, max_rows):
    parts = shares(lengths, ranks, max_rows=max_rows)
    assert all(len(micro) <= max_rows for part in parts for micro in part)
    assert len(parts[0]) == max(1, -(-len(lengths) // (ranks * max_rows)))


@given(row_lengths, few, st.integers(1, 9000))
def test_a_limit_of_tokens_is_exceeded_by_no_more_than_a_row(lengths, ranks, max_tokens):
    fitting = [min(length, max_tokens) for length in lengths]
    micros = [micro for part in shares(fitting, ranks, max_tokens=max_tokens) for micro in part]
    assert max(tokens_of(fitting, micro) for micro in micros) <= max_tokens + max(fitting, default=0)


@given(st.integers(1, 12), st.integers(1, 3), st.integers(1, 4000), st.integers(0, 2**32))
def test_a_step_of_the_sampler_takes_no_more_micro_batches_than_it_has(ranks, each, max_tokens, seed):
    """Also where rows are longer than a micro-batch may be: such a row is one in itself, for the sampler and for the ranks."""
    lengths = skewed(400, seed)
    sampler = BatchSampler(len(lengths), None, seed=seed, lengths=lengths, max_tokens=max_tokens)
    some = [sampler.batch(0, k) for k in range(min(ranks * each, sampler.batches(0)))]
    parts = shares(lengths[np.concatenate(some)], ranks, max_tokens=max_tokens)
    assert len(parts[0]) <= each


@given(st.lists(st.integers(1, 3000), max_size=20), st.integers(0, 20), limits())
def test_with_fewer_rows_than_ranks_each_row_has_a_rank_of_its_own(lengths, more, most):
    parts = shares(lengths, len(lengths) + 1 + more, **most)
    assert all(len(part) == 1 for part in parts)
    assert sorted(len(part[0]) for part in parts) == [0] * (1 + more) + [1] * len(lengths)


@given(row_lengths, few, limits())
def test_every_rank_plans_the_same_whatever_holds_the_lengths(lengths, ranks, most):
    kinds = (lengths, tuple(lengths), np.array(lengths, np.int32), np.array(lengths, np.int64))
    plans = [[[m.tolist() for m in part] for part in shares(kind, ranks, **most)] for kind in kinds]
    assert all(found == plans[0] for found in plans)


@settings(max_examples=20)
@given(st.integers(2, 8), st.integers(200, 700), st.integers(0, 2**32))
def test_many_rows_per_rank_are_even_without_comparing_them_all(ranks, each, seed):
    lengths = np.minimum(skewed(ranks * each, seed), 2048)
    sums = np.array([tokens_of(lengths, pile) for pile in deal(lengths, ranks)])
    assert sums.max() < 1.0005 * sums.mean()


@given(st.integers(4, 16), st.integers(2, 4), st.integers(0, 2**32))
def test_several_micro_batches_are_even_and_ranks_more_so(ranks, each, seed):
    lengths = np.minimum(skewed(ranks * each * 8, seed), 1000)
    parts = shares(lengths, ranks, max_rows=8)
    micros = np.array([[tokens_of(lengths, micro) for micro in part] for part in parts])
    assert micros.shape == (ranks, each)
    assert micros.max() < 1.03 * micros.mean() and micros.sum(1).max() < 1.005 * micros.sum(1).mean()


# ---- benchmarks/scale_sim.py and docs/scale.md


@pytest.fixture(scope="module")
def sim() -> ModuleType:
    """The simulator, which stands with the benchmarks and is no part of the package."""
    folder = ROOT / "benchmarks"
    spec = importlib.util.spec_from_file_location("scale_sim", folder / "scale_sim.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(folder))
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def test_the_page_about_scale_has_the_tables_of_the_simulator(sim):
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    for table in sim.model_tables():
        assert sim.markdown(table) in page, f"run `python benchmarks/scale_sim.py model` and copy: {table[0]}"


@pytest.mark.parametrize("kind", ["by count", "by length", "by tokens"])
@pytest.mark.parametrize(("ranks", "rows"), [(3, 100), (8, 1000), (64, 50)])
def test_an_epoch_over_all_ranks_computes_every_row_once(sim, kind, ranks, rows):
    args = sim.arguments(["once", "--ranks", str(ranks), "--batch", str(4 * ranks), "--tokens", "2000"])
    plan = sim.plan(kind, sim.drawn("web text", rows, None), args)
    steps, micros, empty = sim.check_epoch(plan, epoch=2)
    assert steps == plan.steps(2) and micros - empty <= rows and micros % ranks == 0
    as_one = sim.plan(kind, plan.lengths, args, ranges=True)  # a step that is asked for at once has the same rows
    assert all(np.array_equal(np.concatenate(plan.rows(2, k)), np.concatenate(as_one.rows(2, k))) for k in range(steps))


def test_the_simulator_sees_a_row_that_is_computed_twice(sim, monkeypatch):
    args = sim.arguments(["once", "--ranks", "4", "--batch", "16"])
    plan = sim.plan("by count", sim.drawn("web text", 64, None), args)

    def careless(lengths, ranks, **most):
        parts = shares(lengths, ranks, **most)
        parts[0][0] = parts[1][0]
        return parts

    monkeypatch.setattr(sim, "shares", careless)
    with pytest.raises(SystemExit, match="not computed exactly once"):
        sim.check_epoch(plan, epoch=0)
