"""Similarity to known precursors: a plain reference, random sequence, strands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mirscan.kernels.bases import encode, reverse_complement
from mirscan.kernels.homology import DROP, JUMP, MISMATCH, NEW, SHIFT, WORD, index_words, similarity

LET_7 = "UGAGGUAGUAGGUUGUAUAGUUUGGAAUAUUACCACCGGUGAACUAUGCAAUUUUCUACCUUACCGGAG"


def codes_of(text: str) -> np.ndarray:
    return encode(np.frombuffer(text.encode(), np.uint8))


def plain(hairpin: np.ndarray, precursors: list[np.ndarray]) -> tuple[float, int]:
    """The similarity of one hairpin, read off every pair of places."""
    worth = np.ones(len(hairpin))
    for i in range(NEW - 1, len(hairpin)):
        word = hairpin[i - NEW + 1 : i + 1].tolist()
        earlier = [hairpin[k : k + NEW].tolist() for k in range(i - NEW + 1)]
        worth[i] = not (max(word) < 4 and word in earlier)

    def extended(values: list[float], total: float) -> tuple[float, int]:
        """The best sum of ``total`` and leading values, and how many; given up when far below the best."""
        run, best, taken = total, total, 0
        for number, value in enumerate(values, 1):
            if run < best - DROP:
                break
            run += value
            if run > best:
                best, taken = run, number
        return best, taken

    def words(codes: np.ndarray) -> list[list[int]]:
        return [codes[x : x + WORD].tolist() for x in range(len(codes) - WORD + 1)]

    found = (0.0, -1)
    for number, known in enumerate(precursors):
        chain, reached, diagonal, best = 0.0, 0, 0, 0.0
        there = words(known)
        for p, word in enumerate(words(hairpin)):
            for q in range(len(there)):
                if word != there[q] or max(word) > 3 or (p and q and hairpin[p - 1] == known[q - 1] < 4):
                    continue

                def worths(pairs: list[tuple[int, int]], known: np.ndarray = known) -> list[float]:
                    values = []
                    for i, j in pairs:
                        if known[j] > 3:
                            break
                        values.append(worth[i] if hairpin[i] == known[j] else -MISMATCH)
                    return values

                right = list(zip(range(p + WORD, len(hairpin)), range(q + WORD, len(known)), strict=False))
                left = list(zip(range(p - 1, -1, -1), range(q - 1, -1, -1), strict=False))
                total, more = extended(worths(right), worth[p : p + WORD].sum())
                total, before = extended(worths(left), total)
                if total < WORD:
                    continue
                if chain and p - before >= reached and abs(q - p - diagonal) <= SHIFT:
                    total += max(0.0, chain - JUMP)
                if total > chain:
                    chain, reached, diagonal = total, p + WORD + more, q - p
                best = max(best, chain)
        if best > found[0]:
            found = (best, number)
    return found


def mutated(generator: np.random.Generator, codes: np.ndarray) -> np.ndarray:
    """A relative: some bases other, one piece left out or put in, perhaps an ambiguous one."""
    codes = codes.copy()
    for place in generator.integers(0, len(codes), generator.integers(0, 8)):
        codes[place] = generator.integers(0, 4)
    place, size = int(generator.integers(10, len(codes) - 10)), int(generator.integers(0, 16))
    if generator.random() < 0.5:
        codes = np.concatenate([codes[:place], codes[place + size :]])
    else:
        codes = np.concatenate([codes[:place], generator.integers(0, 4, size).astype(np.uint8), codes[place:]])
    if generator.random() < 0.3:
        codes[generator.integers(len(codes))] = generator.integers(4, 6)
    return codes


@given(seed=st.integers(0, 10_000))
@example(seed=216)  # ambiguous bases of hairpin and precursor meet
@settings(max_examples=25, deadline=None)
def test_similarity_is_that_of_a_plain_reference(seed: int) -> None:
    generator = np.random.default_rng(seed)
    ancestors = [generator.integers(0, 4, 70).astype(np.uint8) for _ in range(3)]
    ancestors.append(np.tile(generator.integers(0, 4, generator.integers(1, 7)).astype(np.uint8), 40)[:70])
    precursors = [mutated(generator, codes) for codes in ancestors for _ in range(2)]
    hairpins = [mutated(generator, codes) for codes in ancestors]
    contig = np.concatenate(hairpins)
    ends = np.cumsum([len(codes) for codes in hairpins])
    starts = ends - [len(codes) for codes in hairpins]
    homology, best = similarity(contig, starts, ends, np.zeros(4, bool), index_words(precursors))
    expected = [plain(codes, precursors) for codes in hairpins]
    assert homology.dtype == np.float32
    assert best.dtype == np.int32
    assert [*zip(homology.tolist(), best.tolist(), strict=True)] == expected
    assert homology[:3].max() > 20  # relatives are found


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_other_strand_gives_the_same_with_strands_exchanged(seed: int) -> None:
    generator = np.random.default_rng(seed)
    contig = generator.integers(0, 4, 400).astype(np.uint8)
    contig[150:153] = 4
    words = index_words([contig[50:140], reverse_complement(contig[200:290])])
    starts = generator.integers(0, 300, 40)
    ends = starts + generator.integers(11, 100, 40)
    minus = generator.random(40) < 0.5
    there = similarity(contig, starts, ends, minus, words)
    back = similarity(reverse_complement(contig), 400 - ends, 400 - starts, ~minus, words)
    assert (there[0] > 0).any()
    for one, other in zip(there, back, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_precursor_is_as_similar_to_itself_as_it_is_long_and_its_other_strand_is_not() -> None:
    let_7 = codes_of(LET_7)
    words = index_words([codes_of("ACGU" * 20), let_7])
    place = np.zeros(2, np.int64), np.full(2, len(let_7)), np.array([False, True])
    homology, best = similarity(let_7, *place, words)
    assert len(LET_7) - 4 <= homology[0] <= len(LET_7)
    assert best[0] == 1
    assert homology[1] < 12


def test_the_mature_arm_alone_is_found_in_another_hairpin() -> None:
    generator = np.random.default_rng(0)
    foreign = generator.integers(0, 4, 80).astype(np.uint8)
    foreign[10:32] = codes_of(LET_7)[:22]
    homology, best = similarity(
        foreign, np.array([0]), np.array([80]), np.array([False]), index_words([codes_of(LET_7)])
    )
    assert homology[0] >= 21
    assert best[0] == 0


def test_repeats_are_similar_to_no_repeat() -> None:
    repeats = [codes_of(unit * 40)[:100] for unit in ("A", "AU", "AGC", "UUAGGC", "AGGCUUA")]
    homology, best = similarity(
        np.concatenate(repeats), np.arange(5) * 100, np.arange(1, 6) * 100, np.zeros(5, bool), index_words(repeats)
    )
    assert (homology <= 12).all()
    assert best[homology == 0].tolist() == [-1] * int((homology == 0).sum())


def test_random_sequence_stays_far_below_a_mature_arm() -> None:
    generator = np.random.default_rng(1)
    words = index_words(list(generator.integers(0, 4, (20_000, 90)).astype(np.uint8)))
    contig = generator.integers(0, 4, 80_000).astype(np.uint8)
    starts = np.arange(0, 79_000, 80)
    homology, _ = similarity(contig, starts, starts + 80, starts % 160 == 0, words)
    assert np.median(homology) <= 14
    assert np.percentile(homology, 99) <= 18.5


@pytest.mark.parametrize("codes", [np.empty(0, np.uint8), np.full(90, 4, np.uint8), np.full(90, 5, np.uint8)])
def test_nothing_is_similar_to_nothing(codes: np.ndarray) -> None:
    words = index_words([codes, np.full(30, 4, np.uint8)])
    place = np.zeros(1, np.int64), np.full(1, len(codes)), np.ones(1, bool)
    homology, best = similarity(codes, *place, words)
    assert homology.tolist() == [0.0]
    assert best.tolist() == [-1]
    none = np.empty(0, np.int64)
    assert similarity(codes, none, none, none, words)[0].size == 0
