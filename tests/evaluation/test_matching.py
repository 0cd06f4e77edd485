"""Calls against known hairpins: the rule of a match, ties, duplicates, and plain references."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirscan.evaluation.matching import Places, evaluate_calls, match, non_redundant
from mirscan.evaluation.ranking import average_precision, max_f1


def places(*rows: tuple[int, int, int, bool]) -> Places:
    columns = zip(*rows, strict=True) if rows else ([], [], [], [])
    return Places(*(np.array(column) for column in columns))


def test_the_rule_of_a_match() -> None:
    known = places((0, 100, 200, False))
    calls = places(
        (0, 150, 210, False),  # half of it
        (0, 151, 211, False),  # less than half
        (0, 40, 341, False),  # more than three times as long
        (0, 100, 200, True),  # the other strand
        (1, 100, 200, False),  # another contig
    )
    for row, expected in enumerate([0, -1, -1, -1, -1]):
        found = match(calls.take(np.array([row])), known)
        assert found.known[0] == expected
        assert found.antisense[0] == (row == 3)


def test_each_hairpin_is_found_once_and_each_call_finds_one() -> None:
    known = places((0, 100, 160, False), (0, 170, 230, False))
    calls = places((0, 100, 230, False), (0, 165, 235, False), (0, 101, 159, False))
    assert match(calls, known).known.tolist() == [0, 1, -1]


def test_worse_calls_over_better_ones_go() -> None:
    calls = places((0, 0, 50, False), (0, 40, 90, False), (0, 90, 120, False), (0, 45, 60, True), (1, 45, 60, False))
    scores = np.array([0.5, 0.9, 0.1, 0.2, 0.3])
    assert non_redundant(calls, scores).tolist() == [1, 4, 3, 2]


def test_figures_by_hand() -> None:
    known = places((0, 0, 60, False), (0, 1000, 1060, True), (0, 5000, 5060, False))
    calls = places((0, 0, 60, False), (0, 300, 360, False), (0, 1000, 1060, True), (0, 1000, 1060, False))
    figures = evaluate_calls(calls, np.array([0.9, 0.8, 0.7, 0.6]), known, megabases=1.0)
    assert figures.average_precision == pytest.approx((1 + 2 / 3) / 3)
    assert figures.max_f1 == pytest.approx(2 * 2 / (3 + 3))
    assert figures.recall == {1: pytest.approx(1 / 3), 5: pytest.approx(2 / 3), 20: 2 / 3, 100: 2 / 3}
    assert (figures.known, figures.found, figures.calls, figures.antisense) == (3, 2, 4, 1)
    np.testing.assert_allclose(figures.curve, [[0.9, 1, 1 / 3], [0.7, 2 / 3, 2 / 3]])


def test_hairpins_set_aside_are_neither_right_nor_false() -> None:
    known, aside = places((0, 0, 60, False)), places((0, 1000, 1060, True))
    calls = places((0, 1000, 1060, True), (0, 300, 360, False), (0, 0, 60, False))
    scores = np.array([0.9, 0.8, 0.7])
    assert evaluate_calls(calls, scores, known, 1.0, aside).average_precision == pytest.approx(1 / 2)
    assert evaluate_calls(calls, scores, known, 1.0).average_precision == pytest.approx(1 / 3)


def test_ties_get_no_credit_for_their_order() -> None:
    known = places((0, 0, 60, False))
    calls = places((0, 0, 60, False), (0, 300, 360, False), (0, 400, 460, False))
    assert evaluate_calls(calls, np.ones(3), known, 1.0).average_precision == pytest.approx(1 / 3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_figures_agree_with_the_plain_metrics(seed: int) -> None:
    generator = np.random.default_rng(seed)
    start = np.arange(300) * 100
    calls = Places(np.zeros(300, np.int64), start, start + 60, generator.random(300) < 0.5)
    chosen = generator.choice(300, 20, replace=False)
    scores = generator.integers(0, 40, 300) / 40
    truth = np.isin(np.arange(300), chosen)
    figures = evaluate_calls(calls, scores, calls.take(chosen), 1.0)
    assert figures.average_precision == pytest.approx(average_precision(truth, scores))
    assert figures.max_f1 == pytest.approx(max_f1(truth, scores)[0])
    assert figures.found == 20


def test_the_interval_holds_the_figure_and_narrows_with_more_blocks() -> None:
    generator = np.random.default_rng(0)

    def width(megabases: int) -> float:
        start = np.arange(megabases * 100) * 10_000
        calls = Places(np.zeros(len(start), np.int64), start, start + 60, np.zeros(len(start), bool))
        known = calls.take(np.arange(0, len(start), 20))
        scores = generator.normal(size=len(start))
        scores[::20] += 2
        figures = evaluate_calls(calls, scores, known, float(megabases))
        low, high = figures.interval
        assert low <= figures.average_precision <= high
        return high - low

    assert width(100) < width(10)


def test_nothing_known_is_refused() -> None:
    with pytest.raises(ValueError, match="0 known"):
        evaluate_calls(places((0, 0, 60, False)), np.ones(1), places(), 1.0)
    with pytest.raises(ValueError, match="scores that are none"):
        evaluate_calls(places((0, 0, 60, False)), np.array([np.nan]), places((0, 0, 60, False)), 1.0)
