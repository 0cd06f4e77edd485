"""kernels.clusters: the best neighbour of each hairpin, against the definition."""

from __future__ import annotations

import numpy as np
import pytest

from mirscan.kernels.bases import reverse_complement
from mirscan.kernels.clusters import (
    CHANCE,
    COPIED,
    DOUBT,
    RELATED,
    WORD,
    best_neighbours,
    copied_nearby,
    lift,
    logit,
    lower,
    probability,
)


def hairpins(seed: int, count: int = 300) -> tuple[np.ndarray, ...]:
    """Random hairpins of both strands in the order of centres, and a logit each."""
    generator = np.random.default_rng(seed)
    starts = generator.integers(0, 20_000, count)
    ends = starts + generator.integers(40, 120, count)
    order = np.argsort(starts + ends, kind="stable")
    minus = generator.random(count) < 0.5
    return starts[order], ends[order], minus, generator.normal(size=count).astype(np.float32)


def repetitive(seed: int) -> np.ndarray:
    """Random bases with an N here and there, the second half a worn copy of the first."""
    generator = np.random.default_rng(seed)
    half = generator.integers(0, 4, 15_000).astype(np.uint8)
    copy = np.where(generator.random(15_000) < 0.05, generator.integers(0, 5, 15_000), half).astype(np.uint8)
    tandem = np.repeat(generator.integers(0, 4, (10, 150)).astype(np.uint8), 10, axis=0).reshape(-1)
    return np.concatenate([tandem, half[15_000 - len(tandem) :], copy])[:30_000]


@pytest.mark.parametrize("reach", [60, 500, 50_000])
def test_best_neighbours_by_definition(reach: int) -> None:
    starts, ends, minus, logits = hairpins(reach)
    codes = repetitive(reach)
    found = best_neighbours(starts, ends, minus, logits, reach, codes)
    words = [
        {tuple(codes[i : i + WORD]) for i in range(start, end - WORD + 1) if (codes[i : i + WORD] < 4).all()}
        for start, end in zip(starts, ends, strict=True)
    ]
    related = 0
    for h in range(len(starts)):
        near = np.abs((starts + ends) - (starts[h] + ends[h])) <= 2 * reach
        apart = (ends <= starts[h]) | (starts >= ends[h])
        best = 0.0
        for k in np.flatnonzero(near & apart & (minus == minus[h]) & (logits > 0)):
            if len(words[h] & words[k]) <= RELATED * min(len(words[h]), len(words[k])):
                best = max(best, logits[k])
            else:
                related += 1
        assert found[h] == best
    assert related or reach < 100


def test_neighbours_on_the_other_strand_of_the_other_strand() -> None:
    starts, ends, minus, logits = hairpins(1)
    codes = repetitive(1)
    found = best_neighbours(starts, ends, minus, logits, 800, codes)
    order = np.lexsort((~minus, -(starts + ends)))
    other = reverse_complement(codes)
    turned = best_neighbours(30_000 - ends[order], 30_000 - starts[order], ~minus[order], logits[order], 800, other)
    np.testing.assert_array_equal(turned, found[order])


@pytest.mark.parametrize("reach", [0, 150, 2000])
def test_copies_nearby_by_definition(reach: int) -> None:
    starts, ends, _, _ = hairpins(reach, 60)
    starts[0], ends[0] = 5, 9  # shorter than a word
    codes = repetitive(reach)

    def words(first: int, last: int) -> list[tuple[int, ...]]:
        each = (tuple(codes[i : i + COPIED].tolist()) for i in range(max(first, 0), min(last, len(codes)) - COPIED + 1))
        return [word for word in each if max(word) < 4]

    found = copied_nearby(starts, ends, codes, reach)
    for h, (start, end) in enumerate(zip(starts, ends, strict=True)):
        near = {*words(start - reach, start), *words(end, end + reach)}
        near |= {tuple(3 - base for base in reversed(word)) for word in near}
        mine = words(start, end)
        assert found[h] == np.float32(sum(word in near for word in mine) / max(len(mine), 1))
    assert (found.max() > 0.5) == (reach > 0)
    turned = copied_nearby(len(codes) - ends, len(codes) - starts, reverse_complement(codes), reach)
    np.testing.assert_array_equal(turned, found)


def test_copies_beyond_chance_count_against_a_hairpin() -> None:
    logits = np.array([1.0, 1.0, -3.0], dtype=np.float32)
    lowered = lower(logits, np.array([0.0, CHANCE, 1.0], np.float32), 6.0)
    np.testing.assert_allclose(lowered, [1, 1, -3 - 6 * (1 - CHANCE)], rtol=1e-6)


def test_a_neighbour_counts_by_the_chance_that_it_is_one() -> None:
    logits = np.array([1.0, -2.0, 0.5, 3.0], dtype=np.float32)
    lifted = lift(logits, np.array([DOUBT, 0.0, 2.0, 30.0], np.float32), 100.0)
    np.testing.assert_allclose(
        lifted, [1 + np.log(51), -2, 0.5 + np.log1p(100 / (1 + np.exp(5.0))), 3 + np.log(101)], rtol=1e-6
    )


def test_logit_and_probability_are_inverse_and_finite() -> None:
    logits = np.linspace(-80, 12, 500, dtype=np.float32)
    np.testing.assert_allclose(logit(probability(logits)), logits, rtol=2e-2, atol=1e-3)
    assert np.isfinite(logit(np.array([0, 1], np.float32))).all()
    assert (np.diff(logit(np.linspace(0, 1, 1000, dtype=np.float32))) > 0).all()
