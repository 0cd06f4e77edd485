"""Duplexes and the table of proposed hairpins: a plain reference, pieces, strands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirscan.kernels.bases import encode, reverse_complement
from mirscan.kernels.duplex import (
    BEYOND,
    LOOP,
    NOTHING,
    PAIRED,
    UNPAIRED,
    align_duplexes,
    best_opposite,
    trinucleotide_entropy,
)
from mirscan.kernels.hairpins import trace_hairpins
from mirscan.structure.hairpins import SCALARS, contig_hairpins, find_hairpins, in_order
from mirscan.structure.proposals import propose
from mirscan.structure.turner import turner_tables


def codes_of(text: str) -> np.ndarray:
    return encode(np.frombuffer(text.encode(), np.uint8))


def random_codes(seed: int, length: int) -> np.ndarray:
    codes = np.random.default_rng(seed).integers(0, 4, length).astype(np.uint8)
    codes[length // 3 : length // 3 + 4] = 4
    return codes


def pairs_of(structure: str) -> np.ndarray:
    partners, open_ = np.full((1, len(structure)), -1, dtype=np.int16), []
    for place, mark in enumerate(structure):
        if mark == "(":
            open_.append(place)
        elif mark == ")":
            other = open_.pop()
            partners[0, place], partners[0, other] = other, place
    return partners


def reference(codes: np.ndarray, start: int, length: int, partner: np.ndarray, flank: int, columns: int) -> np.ndarray:
    """Columns as a list of (5' place, 3' place, state), a place of None being no base."""
    rows: list[tuple[int | None, int | None, int]] = [(-k, length - 1 + k, BEYOND) for k in range(flank, 0, -1)]
    left = [x for x in range(length) if partner[x] > x]
    for number, x in enumerate(left):
        rows.append((x, int(partner[x]), PAIRED))
        following = left[number + 1] if number + 1 < len(left) else None
        if following is None:
            inside: list[int | None] = list(range(x + 1, int(partner[x])))
            half = (len(inside) + 1) // 2
            first, second, state = inside[:half], inside[half:][::-1], LOOP
        else:
            first = list(range(x + 1, following))
            second, state = list(range(int(partner[x]) - 1, int(partner[following]), -1)), UNPAIRED
        wide = max(len(first), len(second))
        first, second = (side + [None] * (wide - len(side)) for side in (first, second))
        rows += [(a, b, state) for a, b in zip(first, second, strict=True)]

    def base(place: int | None) -> int:
        return 5 if place is None or not 0 <= start + place < len(codes) else int(codes[start + place])

    out = [(base(a), base(b), state) for a, b, state in rows[::-1][:columns]]
    return np.array(out + [(5, 5, NOTHING)] * (columns - len(out)), dtype=np.uint8)


def test_a_hairpin_by_hand() -> None:
    codes = codes_of("AGCAGGAAACGCUU")
    duplexes, counts = align_duplexes(codes, [1], [12], pairs_of("((.((...))))"), flank=2, columns=12)
    left, right, state = duplexes[0].T
    assert state.tolist() == [LOOP] * 2 + [PAIRED] * 2 + [UNPAIRED] + [PAIRED] * 2 + [BEYOND] * 2 + [NOTHING] * 3
    assert left.tolist() == [0, 0, 2, 2, 0, 1, 2, 0, 5, 5, 5, 5]
    assert right.tolist() == [5, 0, 1, 2, 5, 1, 3, 3, 5, 5, 5, 5]
    assert counts[0].tolist() == [4, 3, 1, 1, 7]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 20), st.integers(20, 80))
def test_duplexes_are_those_of_the_reference(seed: int, flank: int, columns: int) -> None:
    codes = random_codes(seed, 600)
    found = propose(codes, turner_tables(), threshold=lambda fractions, lengths: np.zeros(len(lengths)))
    lengths = found.ends - found.starts
    partners = trace_hairpins(codes, turner_tables(), found.starts, lengths)
    duplexes, counts = align_duplexes(codes, found.starts, lengths, partners, flank, columns)
    for row, start in enumerate(found.starts):
        expected = reference(codes, int(start), int(lengths[row]), partners[row], flank, columns)
        assert (duplexes[row] == expected).all()
        whole = reference(codes, int(start), int(lengths[row]), partners[row], 0, 200)
        assert counts[row, 4] == (whole[:, 2] != NOTHING).sum()
        assert counts[row, 0] == (whole[:, 2] == PAIRED).sum()
        assert 2 * counts[row, 0] + counts[row, 1] + 2 * counts[row, 3] - counts[row, 2] == lengths[row]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.integers(150, 2500))
def test_pieces_together_are_the_whole(seed: int, piece: int) -> None:
    codes = random_codes(seed, 5000)
    whole = find_hairpins(codes)
    assert whole.size > 10
    pieces = in_order(find_hairpins(codes, first, min(first + piece, 5000)) for first in range(0, 5000, piece))
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_array_equal(one, other)


def test_both_strands_are_read_alike() -> None:
    codes = random_codes(1, 20_000)
    found, turned = find_hairpins(codes), find_hairpins(reverse_complement(codes))
    order = np.lexsort((~turned.minus, 2 * len(codes) - turned.starts - turned.ends))
    turned = turned.take(order)
    np.testing.assert_array_equal(found.starts, len(codes) - turned.ends)
    np.testing.assert_array_equal(found.minus, ~turned.minus)
    np.testing.assert_array_equal(found.duplexes, turned.duplexes)
    np.testing.assert_array_equal(found.scalars, turned.scalars)


def test_threads_change_nothing() -> None:
    codes = random_codes(2, 200_000)
    for one, other in zip(contig_hairpins(codes), contig_hairpins(codes, threads=2), strict=True):
        np.testing.assert_array_equal(one, other)


def test_scalars_say_what_their_names_say() -> None:
    codes = random_codes(3, 20_000)
    found = find_hairpins(codes)
    column = {name: found.scalars[:, number] for number, name in enumerate(SCALARS)}
    assert found.scalars.shape[1] == len(SCALARS)
    np.testing.assert_allclose(column["a"] + column["c"] + column["g"] + column["u"], 1, atol=1e-6)
    np.testing.assert_array_equal(column["length"], found.ends - found.starts)
    row = int(np.flatnonzero(found.minus)[0])
    bases = reverse_complement(codes[found.starts[row] : found.ends[row]])
    assert column["g"][row] == pytest.approx((bases == 2).mean())


def test_the_other_strand_is_searched_exhaustively() -> None:
    generator = np.random.default_rng(4)
    starts, other = (np.sort(generator.integers(0, 3000, 200)) for _ in range(2))
    ends, other_ends = starts + generator.integers(30, 120, 200), other + generator.integers(30, 120, 200)
    order, order_other = np.argsort(starts + ends, kind="stable"), np.argsort(other + other_ends, kind="stable")
    starts, ends, other, other_ends = starts[order], ends[order], other[order_other], other_ends[order_other]
    energies = -generator.random(200).astype(np.float32)
    expected = [
        min([0.0, *(energies[k] for k in range(200) if 2 * (min(e, other_ends[k]) - max(s, other[k])) >= e - s)])
        for s, e in zip(starts, ends, strict=True)
    ]
    np.testing.assert_array_equal(
        best_opposite(starts, ends, other, other_ends, energies), np.array(expected, np.float32)
    )


def test_entropy_of_repeats_and_of_all_words() -> None:
    assert trinucleotide_entropy(codes_of("AAAAAAAA"), [0], [8])[0] == 0
    assert trinucleotide_entropy(codes_of("ACACACACAC"), [0], [10])[0] == pytest.approx(1)
    assert trinucleotide_entropy(codes_of("NNNN"), [0], [4])[0] == 0
