"""Alphabets of structures against plain text: what each published network reads, written as a person would."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirscan.kernels.stems import (
    CLOSE,
    LOOP,
    OPEN,
    UNPAIRED,
    aligned_right,
    bases_right,
    flipped_arms,
    loop_centres,
    marks,
    nucleotide_numbers,
    pair_table,
    structure_right,
    symbols,
)

WHOLE = "((..((...))..))"
TWO = "..((...)).(((....))).."


@st.composite
def structures(draw: st.DrawFn) -> str:
    """Balanced dot-brackets of any shape: multiloops, loops without bases, none at all."""
    text, depth = "", 0
    for letter in draw(st.text("(.)..", max_size=60)):
        if letter != ")" or depth:
            text += letter
            depth += (letter == "(") - (letter == ")")
    return text + draw(st.text(".", max_size=6)) + ")" * depth


@st.composite
def molecules(draw: st.DrawFn) -> tuple[list[str], list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Sequences and structures, and the tables of the same."""
    texts = draw(st.lists(structures(), max_size=5))
    letters = [draw(st.text("ACGUN", min_size=len(text), max_size=len(text))) for text in texts]
    return letters, texts, *tables(letters, texts, draw(st.integers(0, 9)))


def tables(letters: list[str], texts: list[str], beyond: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes, lengths and partners, with ``beyond`` columns more than the longest needs."""
    partners = pair_table(texts, max(map(len, texts), default=0) + beyond)
    codes = np.full(partners.shape, 5, dtype=np.uint8)
    for row, sequence in enumerate(letters):
        codes[row, : len(sequence)] = ["ACGUN".index(letter) for letter in sequence]
    return codes, np.array([len(text) for text in texts], dtype=np.int64), partners


def pairs(text: str) -> list[int]:
    """Partners of one structure, its innermost pairs first."""
    found = [-1] * len(text)
    while match := re.search(r"\([^()]*\)", text):
        i, j = match.start(), match.end() - 1
        found[i], found[j] = j, i
        text = text[:i] + "." * (j + 1 - i) + text[j + 1 :]
    return found


def colons(text: str) -> str:
    """A structure with ``:`` for the bases of its terminal loops."""
    return re.sub(r"\((\.+)\)", lambda match: "(" + ":" * len(match[1]) + ")", text)


def right(values: list[int], width: int) -> list[int]:
    return ([0] * width + values)[len(values) :] if len(values) < width else values[len(values) - width :]


def halves(text: str) -> tuple[str, str]:
    """The two arms, the second one read backwards, by the paper's words: positions count from 1, k is the centre."""
    loops = [(match.start() + 2, match.end() - 1) for match in re.finditer(r"\(\.+\)", text)]
    k = -(-(loops[0][0] + loops[-1][1]) // 2) if loops else len(text) // 2 + 1
    return text[: k - 1], text[k - 1 :][::-1]


def test_pairs_of_a_hairpin() -> None:
    table = pair_table(["((.))", ".()", ""])
    assert table.dtype == np.int16
    assert table.tolist() == [[4, 3, -1, 1, 0], [-1, 2, 1, -1, -1], [-1] * 5]
    assert pair_table(["()"], width=4).tolist() == [[1, 0, -1, -1]]
    assert pair_table([]).shape == (0, 0)


@settings(max_examples=80, deadline=None)
@given(molecules())
def test_tables_hold_the_pairs_and_marks_give_the_text_back(drawn) -> None:
    _, texts, _, lengths, partners = drawn
    marked = marks(lengths, partners)
    assert marked.dtype == np.uint8
    for text, row, mark in zip(texts, partners.tolist(), marked.tolist(), strict=True):
        assert row == pairs(text) + [-1] * (len(row) - len(text))
        assert "".join("().:"[k] for k in mark[: len(text)]) == colons(text)
        assert mark[len(text) :] == [255] * (len(mark) - len(text))
    assert (OPEN, CLOSE, UNPAIRED, LOOP) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["(.)", "(()"], r"structure 1: '\(' at place 0 has no partner"),
        (["", ")("], r"structure 1: '\)' at place 0 has no partner"),
        (["..", "(.))(", "()"], r"structure 1: '\)' at place 3 has no partner"),
        (["(", "&"], r"structure 0: '\(' at place 0 has no partner"),
        (["..[..]"], r"structure 0: '\[' at place 2 is no"),
        (["()", "(é)"], r"structure 1: 'é' at place 1 is no"),
    ],
)
def test_what_is_no_structure_is_refused_with_its_place(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair_table(texts)


@pytest.mark.parametrize(("text", "width"), [("....", 3), ("." * 32768, None), (".", 40000)])
def test_a_table_must_be_wide_enough_and_fit_its_type(text: str, width: int | None) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        pair_table([text], width)


@settings(max_examples=80, deadline=None)
@given(molecules(), st.integers(1, 70))
def test_every_alphabet_is_the_text_padded_or_cut_at_the_left(drawn, width: int) -> None:
    letters, texts, codes, lengths, partners = drawn
    bases = [[{"C": 1, "G": 2, "U": 3}.get(letter, 0) for letter in sequence] for sequence in letters]
    brackets = [["(.)".index(letter) + 1 for letter in text] for text in texts]
    both = [
        [1 + 4 * base + "().:".index(mark) for base, mark in zip(row, colons(text), strict=True)]
        for row, text in zip(bases, texts, strict=True)
    ]
    for made, expected in (
        (bases_right(codes, lengths, width), [[1 + base for base in row] for row in bases]),
        (structure_right(lengths, partners, width), brackets),
        (symbols(codes, lengths, partners, width), both),
    ):
        assert made.shape == (len(texts), width)
        assert made.dtype == np.uint8
        assert made.tolist() == [right(row, width) for row in expected]


def test_symbols_by_hand() -> None:
    codes, lengths, partners = tables(["GACUNAC"], ["(.(.).)"], 5)
    #                G( A. C( U: N) A. C)
    expected = [9, 3, 5, 16, 2, 3, 6]
    assert symbols(codes, lengths, partners, 9).tolist() == [[0, 0, *expected]]
    assert symbols(codes, lengths, partners, 3).tolist() == [expected[-3:]]


@pytest.mark.parametrize(
    ("text", "forward", "backward"),
    [
        ("((....))", "((..", ")).."),
        ("((...)).", "((.", ".)).."),
        (WHOLE, "((..((.", "))..)).."),
        (TWO, "..((...)).", "..)))....((("),
        (".....", "..", "..."),
        ("", "", ""),
    ],
)
def test_arms_by_hand(text: str, forward: str, backward: str) -> None:
    assert forward + backward[::-1] == text
    made = flipped_arms(np.array([len(text)]), pair_table([text]), 14)
    for arm, expected in zip(made, (forward, backward), strict=True):
        assert "".join("_(.)"[k] for k in arm[0]) == expected.rjust(14, "_")


@settings(max_examples=80, deadline=None)
@given(molecules(), st.integers(1, 40))
def test_arms_end_in_the_loop(drawn, width: int) -> None:
    _, texts, _, lengths, partners = drawn
    forward, backward = flipped_arms(lengths, partners, width)
    centres = loop_centres(lengths, partners)
    assert forward.dtype == backward.dtype == np.uint8
    assert forward.shape == backward.shape == (len(texts), width)
    for row, text in enumerate(texts):
        arms = halves(text)
        assert centres[row] == len(arms[0])
        for made, arm in zip((forward, backward), arms, strict=True):
            assert made[row].tolist() == right(["(.)".index(letter) + 1 for letter in arm], width)


def numbers(sequence: str, text: str, width: int) -> list[list[float]]:
    """Five numbers a base, in the middle of ``width``."""
    rows = [
        [0.25 if base == "N" else float(base == other) for other in "ACGU"] + [{"(": 1.0, ")": -1.0, ".": 0.0}[bracket]]
        for base, bracket in zip(sequence, text, strict=True)
    ]
    while len(rows) > width:
        rows = rows[:-1] if (len(rows) - width) % 2 else rows[1:]
    while len(rows) < width:
        rows = [*rows, [0.0] * 5] if (width - len(rows)) % 2 else [[0.0] * 5, *rows]
    return rows


@settings(max_examples=80, deadline=None)
@given(molecules(), st.integers(1, 70))
def test_numbers_are_those_of_mirdnn_in_the_middle(drawn, width: int) -> None:
    letters, texts, codes, lengths, partners = drawn
    made = nucleotide_numbers(codes, lengths, partners, width)
    assert made.dtype == np.float32
    assert made.shape == (len(texts), width, 5)
    assert made.tolist() == [numbers(*row, width) for row in zip(letters, texts, strict=True)]


def test_numbers_by_hand() -> None:
    molecule = tables(["GANUC"], ["(...)"])
    g, a, n, u, c = [0, 0, 1, 0, 1], [1, 0, 0, 0, 0], [0.25] * 4 + [0], [0, 0, 0, 1, 0], [0, 1, 0, 0, -1]
    nothing = [0] * 5
    assert nucleotide_numbers(*molecule, 8).tolist() == [[nothing, g, a, n, u, c, nothing, nothing]]
    assert nucleotide_numbers(*molecule, 5).tolist() == [[g, a, n, u, c]]
    assert nucleotide_numbers(*molecule, 2).tolist() == [[a, n]]


@settings(max_examples=40, deadline=None)
@given(molecules(), st.integers(1, 20))
def test_a_row_depends_on_itself_alone(drawn, width: int) -> None:
    letters, texts, codes, lengths, partners = drawn

    def all_of(codes: np.ndarray, lengths: np.ndarray, partners: np.ndarray) -> list[np.ndarray]:
        return [
            symbols(codes, lengths, partners, width),
            bases_right(codes, lengths, width),
            structure_right(lengths, partners, width),
            *flipped_arms(lengths, partners, width),
            loop_centres(lengths, partners),
            nucleotide_numbers(codes, lengths, partners, width),
        ]

    together = all_of(codes, lengths, partners)
    for row in range(len(texts)):
        alone = all_of(*tables([letters[row]], [texts[row]], beyond=3))
        for one, many in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], many[row])


def test_an_empty_batch() -> None:
    codes, lengths, partners = tables([], [])
    assert marks(lengths, partners).shape == (0, 0)
    assert symbols(codes, lengths, partners, 7).shape == (0, 7)
    assert nucleotide_numbers(codes, lengths, partners, 7).shape == (0, 7, 5)
    assert loop_centres(lengths, partners).shape == (0,)


def test_arrays_that_are_not_contiguous_count_the_same() -> None:
    codes, lengths, partners = tables(["GACUNAC", "AAAAAAA"], ["(.(.).)", "......."])
    expected = symbols(codes, lengths, partners, 9)
    np.testing.assert_array_equal(symbols(np.asfortranarray(codes), lengths, np.asfortranarray(partners), 9), expected)
    np.testing.assert_array_equal(symbols(codes[::-1], lengths[::-1], partners[::-1], 9), expected[::-1])


@pytest.mark.parametrize("lengths", [np.array([7]), np.array([3, 8]), np.array([-1, 4]), np.array([[7, 7]])])
def test_lengths_must_fit_the_tables(lengths: np.ndarray) -> None:
    codes, _, partners = tables(["GACUNAC", "AAAAAAA"], ["(.(.).)", "......."])
    for call in (
        lambda: marks(lengths, partners),
        lambda: loop_centres(lengths, partners),
        lambda: flipped_arms(lengths, partners, 9),
        lambda: structure_right(lengths, partners, 9),
        lambda: bases_right(codes, lengths, 9),
        lambda: aligned_right(codes, lengths, 9),
        lambda: symbols(codes, lengths, partners, 9),
        lambda: nucleotide_numbers(codes, lengths, partners, 9),
    ):
        with pytest.raises(ValueError, match="lengths"):
            call()


def test_tables_must_have_one_shape() -> None:
    codes, lengths, partners = tables(["GACUNAC", "AAAAAAA"], ["(.(.).)", "......."])
    for wrong in (partners[:, :-1], partners[:1], partners[0]):
        with pytest.raises(ValueError, match="do not fit"):
            symbols(codes, lengths, wrong, 9)
        with pytest.raises(ValueError, match="do not fit"):
            nucleotide_numbers(codes, lengths, wrong, 9)
