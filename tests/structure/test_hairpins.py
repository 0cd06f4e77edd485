"""The stem-loop recurrence against ViennaRNA's own loop energies, and what must hold whatever the sequence."""

import itertools
from functools import cache

import numpy as np
import pytest
import RNA
from hypothesis import given, settings
from hypothesis import strategies as st

from mirscan.kernels.hairpins import INF, KEY, MAX_SPAN, compact_hairpins, dot_brackets, scan_hairpins, trace_hairpins
from mirscan.structure.turner import turner_tables

PAIRS = {(0, 3), (3, 0), (1, 2), (2, 1), (2, 3), (3, 2)}
TABLES = turner_tables()


def letters(codes):
    return "".join("ACGUN"[min(code, 4)] for code in codes)


def random_codes(length, seed, weights=(1, 1, 1, 1)):
    weights = np.array(weights) / sum(weights)
    return np.random.default_rng(seed).choice(4, length, p=weights).astype(np.uint8)


@cache
def outermost(left, first, last, right):
    """Energy the neighbours add to a pair, from ViennaRNA: a hairpin with them minus its loop."""
    inner = "ACGU"[first] + "AAAA" + "ACGU"[last]
    text = ("ACGU"[left] if left < 4 else "") + inner + ("ACGU"[right] if right < 4 else "")
    dots = ("." if left < 4 else "") + "(....)" + ("." if right < 4 else "")
    fold = RNA.fold_compound(text)
    start = 1 + (left < 4)
    return round(100 * fold.eval_structure(dots)) - fold.eval_hp_loop(start, start + 5)


def slow(codes, span):
    """Energy (dcal/mol) of every stem-loop by the textbook recurrence, on ViennaRNA's loop energies; N counts as A."""
    n, fold, known = len(codes), RNA.fold_compound(letters(np.where(codes < 4, codes, 0))), codes < 4
    closed, whole = {}, {}
    for i in range(n - 5, -1, -1):
        for j in range(i + 4, min(n, i + span)):
            if (codes[i], codes[j]) not in PAIRS:
                continue
            best = fold.eval_hp_loop(i + 1, j + 1)
            for a, b in itertools.product(range(9), range(9)):
                if (i + 1 + a, j - 1 - b) in closed:
                    inner = closed[i + 1 + a, j - 1 - b]
                    best = min(best, fold.eval_int_loop(i + 1, j + 1, i + 2 + a, j - b) + inner)
            closed[i, j] = best
            left = int(codes[i - 1]) if i and known[i - 1] else 4
            right = int(codes[j + 1]) if j + 1 < n and known[j + 1] else 4
            whole[i, j] = best + outermost(left, int(codes[i]), int(codes[j]), right)
    return whole


def check_against_slow(codes, span, compactness=15):
    whole, scan = slow(codes, span), scan_hairpins(codes, TABLES, span, compactness=compactness)
    for i in range(len(codes)):
        inside = [e for (p, q), e in whole.items() if i <= p and q < i + span]
        assert scan.windows[i] == min([0, *inside])
        here = min([(e, q - p + 1) for (p, q), e in whole.items() if p == i], default=(0, 0))
        assert (scan.opened[i], scan.lengths[i]) == (here if here[0] < 0 else (0, 0))
    for centre in range(2 * len(codes)):
        keys = [(e + compactness * (q - p + 1)) * KEY + q - p + 1 for (p, q), e in whole.items() if p + q == centre]
        assert scan.centres[centre] == min(keys, default=scan.centres[centre])
        assert keys or scan.centres[centre] >= INF * KEY
    return whole


@pytest.mark.parametrize(("seed", "weights"), [(0, (1, 1, 1, 1)), (1, (1, 3, 3, 1)), (2, (1, 0, 1, 2))])
def test_equals_the_textbook_recurrence_on_loops_priced_by_viennarna(seed, weights):
    check_against_slow(random_codes(70, seed, weights), span=50)


def test_equals_the_textbook_recurrence_around_ambiguous_bases():
    codes = random_codes(80, 7)
    codes[[0, 21, 44, 45, 79]] = (4, 5, 4, 4, 4)
    check_against_slow(codes, span=60)


@pytest.mark.parametrize("loop", ["ACCGGU", "CAACGG", "CUACGG", "CAACG", "GUUAC", "ACAGUACU", "ACAGUGUU", "GGGGAC"])
def test_special_hairpin_loops_have_their_own_energies(loop):
    text = "GGCAC" + loop + "GUGCC"
    check_against_slow(np.array(["ACGU".index(x) for x in text], dtype=np.uint8), span=len(text))


@pytest.mark.parametrize(("a", "b"), list(itertools.product(range(10), range(10))))
def test_every_size_of_loop(a, b):
    text = "GGGCGC" + "A" * a + "GCCAGG" + "AAAA" + "CCUGGC" + "A" * b + "GCGCCC"
    codes = np.array(["ACGU".index(x) for x in text], dtype=np.uint8)
    structure = "(" * 6 + "." * a + "((((((....))))))" + "." * b + ")" * 6
    scan = scan_hairpins(codes, TABLES, len(codes))
    energy = round(100 * RNA.eval_structure_simple(text, structure))
    if max(a, b) <= 8:
        assert scan.windows[0] <= energy
    traced = dot_brackets(trace_hairpins(codes, TABLES, np.array([0]), np.array([len(codes)])), [len(codes)])[0]
    assert scan.opened[0] == round(100 * RNA.eval_structure_simple(text, traced))


def test_a_perfect_stem_of_the_longest_span_stays_in_range():
    for unit in ("G", "GC", "CG"):
        arm = (unit * 98)[:98]
        text = arm + "AAAA" + arm[::-1].translate(str.maketrans("GC", "CG"))
        codes = np.array(["ACGU".index(x) for x in text], dtype=np.uint8)
        assert scan_hairpins(codes, TABLES, MAX_SPAN).opened[0] == round(100 * RNA.fold(text)[1])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 2, 3, 3, 2, 0, 1, 2, 4, 5]), min_size=1, max_size=400),
    st.integers(5, MAX_SPAN),
    st.data(),
)
def test_any_piece_equals_the_whole(bases, span, data):
    codes = np.array(bases, dtype=np.uint8)
    first = data.draw(st.integers(0, len(codes)))
    last = data.draw(st.integers(first, len(codes)))
    whole, piece = scan_hairpins(codes, TABLES, span), scan_hairpins(codes, TABLES, span, first, last)
    for name in ("windows", "opened", "lengths"):
        np.testing.assert_array_equal(getattr(piece, name), getattr(whole, name)[first:last])


def test_a_long_contig_equals_its_tiles_and_their_centres_merge():
    codes = random_codes(3000, 11)
    codes[1500:1540] = 4
    whole = scan_hairpins(codes, TABLES, 100)
    for tile in (97, 512, 1311):
        merged = np.full_like(whole.centres, INF * KEY)
        for first in range(0, len(codes), tile):
            last = min(first + tile, len(codes))
            piece = scan_hairpins(codes, TABLES, 100, first, last)
            np.testing.assert_array_equal(piece.windows, whole.windows[first:last])
            np.testing.assert_array_equal(piece.opened, whole.opened[first:last])
            part = merged[2 * first : 2 * first + len(piece.centres)]
            np.minimum(part, piece.centres[: len(part)], out=part)
        known = whole.centres < INF * KEY // 2
        np.testing.assert_array_equal(merged[known], whole.centres[known])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=60, max_size=250), st.integers(5, 150), st.integers(1, 50))
def test_a_longer_span_never_gives_a_worse_hairpin(bases, span, more):
    codes = np.array(bases, dtype=np.uint8)
    short, long = scan_hairpins(codes, TABLES, span), scan_hairpins(codes, TABLES, span + more)
    assert (long.windows <= short.windows).all()
    assert (long.opened <= short.opened).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(20, 120))
def test_never_below_rnafold_and_never_better_with_unknown_bases(seed, length):
    codes = random_codes(length, seed)
    energy = scan_hairpins(codes, TABLES, length).windows[0]
    assert energy >= round(100 * RNA.fold(letters(codes))[1])
    blocked = codes.copy()
    blocked[length // 2 :: 7] = 4
    assert (scan_hairpins(blocked, TABLES, length).windows <= 0).all()


def test_nothing_pairs_in_blocks_of_unknown_bases():
    codes = random_codes(600, 3)
    codes[200:400] = 4
    scan = scan_hairpins(codes, TABLES, 60)
    assert not scan.windows[200:341].any()
    assert not scan.opened[141:400][codes[141:400] >= 4].any()
    alone = scan_hairpins(codes[:200], TABLES, 60)
    np.testing.assert_array_equal(scan.windows[:200], alone.windows)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(1, 1, 1, 1), (1, 2, 2, 1), (2, 1, 1, 2)]))
def test_the_traced_structure_has_the_energy_of_the_recurrence(seed, weights):
    codes = random_codes(150, seed, weights)
    scan = scan_hairpins(codes, TABLES, 100)
    starts = np.flatnonzero(scan.lengths)
    partners = trace_hairpins(codes, TABLES, starts, scan.lengths[starts])
    structures = dot_brackets(partners, scan.lengths[starts])
    for start, structure, length in zip(starts, structures, scan.lengths[starts], strict=True):
        before, after = max(0, start - 1), min(len(codes), start + length + 1)
        text = letters(codes[before:after])
        dots = "." * (start - before) + structure + "." * (after - start - length)
        assert scan.opened[start] == round(100 * RNA.eval_structure_simple(text, dots))
        assert structure[0] == "("
        assert structure[-1] == ")"
    assert (np.take_along_axis(partners, np.maximum(partners, 0).astype(int), 1)[partners >= 0]
            == np.broadcast_to(np.arange(partners.shape[1]), partners.shape)[partners >= 0]).all()  # fmt: skip


def test_tracing_is_refused_where_there_is_no_pair():
    codes = np.array([0, 0, 0, 0, 0, 0, 3, 3], dtype=np.uint8)
    trace_hairpins(codes, TABLES, np.array([0]), np.array([8]))
    with pytest.raises(ValueError, match="cannot pair"):
        trace_hairpins(codes, TABLES, np.array([0]), np.array([6]))
    with pytest.raises(ValueError, match="ending at 9"):
        trace_hairpins(codes, TABLES, np.array([1]), np.array([8]))
    assert trace_hairpins(codes, TABLES, np.array([], dtype=int), np.array([], dtype=int)).shape[0] == 0


@pytest.mark.parametrize(("span", "first", "last"), [(4, 0, 9), (MAX_SPAN + 1, 0, 9), (50, 5, 4), (50, 0, 11)])
def test_ranges_are_checked(span, first, last):
    with pytest.raises(ValueError, match=str(span if span != 50 else last)):
        scan_hairpins(np.zeros(10, dtype=np.uint8), TABLES, span, first, last)


@pytest.mark.parametrize("radius", [0, 3, 12])
def test_compact_hairpins_are_the_local_minima(radius):
    codes = random_codes(400, 5)
    scan = scan_hairpins(codes, TABLES, 100, compactness=15)
    low, high = 40, 700
    start, length, score = np.zeros((3, high - low), dtype=np.int32)
    found = compact_hairpins(scan.centres, low, high, radius, -100, start, length, score)
    scores = scan.centres // KEY
    expected = [
        c
        for c in range(low, high)
        if scores[c] <= -100
        and min((scores[d], d) for d in range(max(0, c - radius), min(len(scores), c + radius + 1))) == (scores[c], c)
    ]
    assert expected == (2 * start + length - 1)[:found].tolist()
    whole = slow(codes, 100) if radius == 12 else {}
    for i, bases, value in zip(start[:found], length[:found], score[:found], strict=True):
        assert not whole or whole[i, i + bases - 1] + 15 * bases == value
