"""kernels.words and copies: counts of the words of a genome, against a dictionary."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mirscan.kernels.bases import reverse_complement
from mirscan.kernels.words import count_words, mean_copies
from mirscan.structure.copies import count_copies

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
    monkeypatch.setattr("mirscan.structure.copies.PIECE", piece)
    pieces = count_copies(lambda i, a, b: contigs[i][a:b], [len(c) for c in contigs])
    turned = [reverse_complement(c) for c in contigs]
    other = count_copies(lambda i, a, b: turned[i][a:b], [len(c) for c in contigs])
    assert (whole.k, whole.rare) == (pieces.k, pieces.rare) == (8, 0)
    np.testing.assert_array_equal(whole.counts, pieces.counts)
    np.testing.assert_array_equal(whole.counts, other.counts)


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
