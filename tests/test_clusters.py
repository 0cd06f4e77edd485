"""kernels.clusters: the best neighbour of each hairpin, against the definition."""

from __future__ import annotations

import numpy as np
import pytest

from mirscan.kernels.clusters import best_neighbours, lift, logit, probability


def hairpins(seed: int, count: int = 300) -> tuple[np.ndarray, ...]:
    """Random hairpins of both strands in the order of centres, and a logit each."""
    generator = np.random.default_rng(seed)
    starts = generator.integers(0, 20_000, count)
    ends = starts + generator.integers(40, 120, count)
    order = np.argsort(starts + ends, kind="stable")
    minus = generator.random(count) < 0.5
    return starts[order], ends[order], minus, generator.normal(size=count).astype(np.float32)


@pytest.mark.parametrize("reach", [60, 500, 50_000])
def test_best_neighbours_by_definition(reach: int) -> None:
    starts, ends, minus, logits = hairpins(reach)
    found = best_neighbours(starts, ends, minus, logits, reach)
    for h in range(len(starts)):
        near = np.abs((starts + ends) - (starts[h] + ends[h])) <= 2 * reach
        apart = (ends <= starts[h]) | (starts >= ends[h])
        mine = near & apart & (minus == minus[h])
        assert found[h] == (logits[mine].max() if mine.any() else -np.inf)


def test_neighbours_on_the_other_strand_of_the_other_strand() -> None:
    starts, ends, minus, logits = hairpins(1)
    found = best_neighbours(starts, ends, minus, logits, 800)
    order = np.lexsort((~minus, -(starts + ends)))
    turned = best_neighbours(30_000 - ends[order], 30_000 - starts[order], ~minus[order], logits[order], 800)
    np.testing.assert_array_equal(turned, found[order])


def test_lift_counts_only_good_neighbours() -> None:
    logits = np.array([1.0, -2.0, 0.5], dtype=np.float32)
    np.testing.assert_allclose(lift(logits, np.array([2.0, -1.0, -np.inf], np.float32), 0.5), [2.0, -2.0, 0.5])


def test_logit_and_probability_are_inverse_and_finite() -> None:
    logits = np.linspace(-80, 12, 500, dtype=np.float32)
    np.testing.assert_allclose(logit(probability(logits)), logits, rtol=2e-2, atol=1e-3)
    assert np.isfinite(logit(np.array([0, 1], np.float32))).all()
    assert (np.diff(logit(np.linspace(0, 1, 1000, dtype=np.float32))) > 0).all()
