"""kernels.words and copies: counts of the words of a genome, against a dictionary."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from mirscan.copies import count_copies
from mirscan.kernels.bases import reverse_complement
from mirscan.kernels.words import SHRUNK, count_short_words, count_words, excess_words, foretell, mean_copies

K = 9


def sequence(seed: int, length: int) -> np.ndarray:
    """Random codes with a repeat and some ambiguous bases."""
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 4, length).astype(np.uint8)
    codes[100:160] = codes[:60]
    codes[300:360] = reverse_complement(codes[:60])
    codes[generator.integers(0, length, 5)] = 4
    return codes


def words(codes: np.ndarray) -> list[bytes | None]:
    """Canonical words in order, None where a base is ambiguous."""
    found: list[bytes | None] = []
    for start in range(len(codes) - K + 1):
        word = codes[start : start + K]
        whole = (word < 4).all()
        found.append(min(word.tobytes(), reverse_complement(word).tobytes()) if whole else None)
    return found


def test_counts_equal_a_dictionary() -> None:
    codes = sequence(0, 2000)
    counts = np.zeros(1 << 22, dtype=np.uint8)  # so many slots that no two words meet
    count_words(codes, K, 0, counts)
    expected = Counter(word for word in words(codes) if word)
    assert sorted(counts[counts > 0]) == sorted(expected.values())
    starts, ends = np.array([0, 100, 290, 500, 700]), np.array([60, 160, 380, 505, 790])
    means = [
        np.mean([np.log2(expected[w]) for w in words(codes[a:b]) if w] or [0.0])
        for a, b in zip(starts, ends, strict=True)
    ]
    found = mean_copies(codes, starts, ends, K, 0, counts)
    np.testing.assert_allclose(found, means, rtol=1e-6)
    assert found[0] > 1  # three copies
    assert found[3] == 0  # shorter than a word
    turned = mean_copies(reverse_complement(codes), 2000 - ends, 2000 - starts, K, 0, counts)
    np.testing.assert_array_equal(turned, found)


def test_counts_saturate() -> None:
    counts = np.zeros(1 << 16, dtype=np.uint8)
    count_words(np.zeros(1000, dtype=np.uint8), K, 0, counts)
    assert counts.max() == 255
    assert (counts > 0).sum() == 1


@pytest.mark.parametrize("piece", [50, 333, 5000])
def test_pieces_and_strand_do_not_matter(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    contigs = [sequence(1, 3000), sequence(2, 400), sequence(3, 2000)]
    whole = count_copies(lambda i, a, b: contigs[i][a:b], [len(c) for c in contigs])
    monkeypatch.setattr("mirscan.copies.PIECE", piece)
    pieces = count_copies(lambda i, a, b: contigs[i][a:b], [len(c) for c in contigs])
    turned = [reverse_complement(c) for c in contigs]
    other = count_copies(lambda i, a, b: turned[i][a:b], [len(c) for c in contigs])
    assert (whole.k, whole.rare) == (pieces.k, pieces.rare) == (8, 0)
    np.testing.assert_array_equal(whole.counts, pieces.counts)
    np.testing.assert_array_equal(whole.counts, other.counts)
    for copies in (pieces, other):
        np.testing.assert_array_equal(whole.short_counts, copies.short_counts)
        np.testing.assert_array_equal(whole.pairs, copies.pairs)


def test_a_small_table_counts_a_share() -> None:
    codes = np.random.default_rng(4).integers(0, 4, 100_000).astype(np.uint8)
    codes[50_000:60_000] = codes[:10_000]
    full = count_copies(lambda i, a, b: codes[a:b], [len(codes)])
    share = count_copies(lambda i, a, b: codes[a:b], [len(codes)], most_slots=1 << 15)
    assert share.rare == 3
    assert len(share.counts) == 1 << 15
    starts = np.arange(0, 99_000, 1000)
    ends = starts + 900
    repeated = (starts < 10_000) | ((starts >= 50_000) & (starts < 60_000))
    for copies in (full, share):
        found = copies.of(codes, starts, ends)
        assert found[repeated].min() > found[~repeated].max()


def test_excess_by_definition() -> None:
    codes = sequence(5, 4000)
    codes[1000:3000] = np.resize(codes[1000:1040], 2000)  # a tandem repeat
    counts = np.zeros(4**6, dtype=np.uint32)
    count_short_words(codes, 6, counts)
    pairs, inner = foretell(counts, 6)
    total = int(counts.sum())
    seen: Counter[bytes] = Counter()
    for start in range(len(codes) - 5):
        word = codes[start : start + 6]
        if (word < 4).all():
            seen[min(word.tobytes(), reverse_complement(word).tobytes())] += 1
    assert sorted(counts[counts > 0]) == sorted(seen.values())

    def excess(word: np.ndarray) -> float:
        mirror = reverse_complement(word)
        chance = sum(pairs[a, b] for a, b in itertools.pairwise(word)) - inner[word[1:-1]].sum()
        foretold = (1 if (word == mirror).all() else 2) * total * 2.0 ** (chance / 65536)
        return float(np.log2((seen[min(word.tobytes(), mirror.tobytes())] + SHRUNK) / (foretold + SHRUNK)))

    starts, ends = np.array([0, 980, 2000, 3200, 3500]), np.array([70, 1060, 2090, 3204, 3600])
    found = excess_words(codes, starts, ends, 6, counts, pairs, inner, total)
    for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
        words = [codes[i : i + 6] for i in range(start, end - 5)]
        values = [excess(word) for word in words if (word < 4).all()]
        expected = [max([0.0, *values]), np.mean(values or [0.0])]
        np.testing.assert_allclose(found[row], expected, atol=1e-4)
    assert found[2].min() > 2  # in the repeat
    assert found[4, 1] < 0.5
    assert (found[3] == 0).all()  # shorter than a word
    turned = excess_words(reverse_complement(codes), 4000 - ends, 4000 - starts, 6, counts, pairs, inner, total)
    np.testing.assert_array_equal(turned, found)


def test_foretold_frequencies_are_those_of_a_chain() -> None:
    generator = np.random.default_rng(6)
    codes = generator.choice(4, 400_000, p=[0.4, 0.1, 0.2, 0.3]).astype(np.uint8)
    counts = np.zeros(4**6, dtype=np.uint32)
    count_short_words(codes, 6, counts)
    pairs, inner = foretell(counts, 6)
    shares = np.array([0.35, 0.15, 0.15, 0.35])  # both strands together
    np.testing.assert_allclose(2.0 ** (inner / 65536), shares, rtol=0.02)
    assert (inner == inner[::-1]).all()
    assert (pairs == pairs[::-1, ::-1].T).all()
    assert (2.0 ** (pairs / 65536)).sum() == pytest.approx(1.0, abs=1e-3)


def test_of_a_large_genome_some_pieces_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(7).integers(0, 4, 300_000).astype(np.uint8)
    codes[40_000:40_100] = codes[:100]
    whole = count_copies(lambda i, a, b: codes[a:b], [len(codes)])
    monkeypatch.setattr("mirscan.copies.PIECE", 10_000)
    monkeypatch.setattr("mirscan.copies.ENOUGH", 100_000)
    some = count_copies(lambda i, a, b: codes[a:b], [len(codes)])
    assert some.total == pytest.approx(whole.total / 4, rel=0.1)
    starts = np.arange(0, 299_000, 500)
    a, b = (c.excess(codes, starts, starts + 90) for c in (whole, some))
    assert np.abs(a[:, 1] - b[:, 1]).max() < 0.5
