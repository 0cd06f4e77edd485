"""Images of hairpins: bars counted by hand, the rules again in plain Python, and the published images themselves."""

from __future__ import annotations

import csv
import gzip
import re
from pathlib import Path

import numpy as np
import pytest
import RNA

from mirscan.kernels.bases import ABSENT, encode
from mirscan.kernels.images import COLUMNS, ROWS, hairpin_images
from mirscan.kernels.stems import pair_table
from mirscan.structure.folders import ViennaFolder

COLOURS = {"A": (255, 255, 0), "C": (0, 0, 255), "G": (255, 0, 0), "U": (0, 255, 0), "N": (0, 0, 0), "-": (0, 0, 0)}


def tables(sequences: list[str], structures: list[str], beyond: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes, lengths and partners."""
    partners = pair_table(structures, max(map(len, structures)) + beyond)
    codes = np.full(partners.shape, ABSENT, dtype=np.uint8)
    for row, sequence in enumerate(sequences):
        codes[row, : len(sequence)] = encode(np.frombuffer(sequence.encode("ascii"), dtype=np.uint8))
    return codes, np.array([len(sequence) for sequence in sequences]), partners


def image_of(sequence: str, structure: str) -> np.ndarray:
    images, drawn = hairpin_images(*tables([sequence], [structure]))
    assert drawn.tolist() == [True]
    return images[0]


def bars(image: np.ndarray, columns: int) -> tuple[list[str], list[int], list[str], list[int]]:
    """What the image shows: letters (a dash where black) and heights, above and below; white after ``columns``."""
    names = {colour: letter for letter, colour in COLOURS.items()}
    seen: tuple[list[str], list[int], list[str], list[int]] = ([], [], [], [])
    for x in range(columns):
        for side, pixels in enumerate((image[12::-1, x], image[13:, x])):
            height = int((pixels != 255).any(axis=1).sum())
            assert (pixels[:height] == pixels[0]).all()  # one colour, from the middle on
            seen[2 * side].append(names[tuple(pixels[0].tolist())])
            seen[2 * side + 1].append(height)
    assert (image[:, columns:] == 255).all()
    return seen


def laid_out(sequence: str, structure: str) -> list[tuple[str, str, str, str]] | None:
    """Columns from the terminal loop outwards: letter and mark of the 5' arm, letter and mark of the 3' arm."""
    middle = len(sequence) // 2
    loops = [(match.start(), match.end()) for match in re.finditer(r"\(\.+\)", structure)]
    if not loops:
        return None
    start, end = min(loops, key=lambda loop: (min(abs(loop[0] - middle), abs(loop[1] - middle)), loop))
    forward = list(zip(sequence, structure, strict=True))[: end - 1]
    backward = list(zip(sequence, structure, strict=True))[:start:-1]
    columns: list[tuple[str, str, str, str]] = []
    while forward and backward:
        if forward[0][1] != "." and backward[0][1] == ".":
            columns.insert(0, ("-", "-", *backward.pop(0)))
        elif forward[0][1] == "." and backward[0][1] != ".":
            columns.insert(0, (*forward.pop(0), "-", "-"))
        else:
            columns.insert(0, (*forward.pop(0), *backward.pop(0)))
    return columns


def slow_image(sequence: str, structure: str) -> np.ndarray | None:
    """The rules of the image, column by column and pixel by pixel."""
    columns = laid_out(sequence, structure)
    if columns is None:
        return None
    image = np.full((25, 100, 3), 255, dtype=np.uint8)
    for side in (0, 2):
        others = [x for x, column in enumerate(columns) if column[side + 1] != "."]
        for x, column in enumerate(columns[:100]):
            letters = "".join(sorted(column[0] + column[2]))
            height = 2 if "-" in letters else 1 + {"CG": 1, "AU": 2, "GU": 3}.get(letters, 4)
            if column[side + 1] == ".":
                before = max((other for other in others if other < x), default=-1)
                after = min((other for other in others if other > x), default=len(columns))
                span, distance = before + after + 1, x - before
                height += 2 * max(0, span - distance + 1) if distance > span // 2 else 2 * distance
            for k in range(height):
                y = 13 + k if side else 12 - k
                if 0 <= y < 25:
                    image[y, x] = COLOURS[column[side]]
    return image


def random_structure(random: np.random.Generator, length: int) -> str:
    """Stems with bulges, inner loops and multiloops, of any balanced brackets."""

    def inside(bases: int) -> str:
        if bases < 5 or random.random() < 0.04:
            return "." * bases
        kind = random.random()
        if kind < 0.68:
            return "(" + inside(bases - 2) + ")"
        if kind < 0.78:
            return "." + inside(bases - 2) + "."
        if kind < 0.86:
            return "." + inside(bases - 1)
        if kind < 0.94:
            return inside(bases - 1) + "."
        cut = int(random.integers(1, bases))
        return inside(cut) + inside(bases - cut)

    return inside(length)


def test_pairs_and_the_loop_by_hand() -> None:
    upper, up, lower, down = bars(image_of("GAGAACCCUU", "(((....)))"), 7)
    assert "".join(upper) == "CCAA" + "GAG"
    assert "".join(lower) == "AACC" + "CUU"
    # two and four pixels on A-C mismatches of five make a triangle; then G-C, A-U, G-U
    assert up == down == [7, 9, 9, 7, 2, 3, 4]


def test_a_loop_of_odd_length_has_one_tip() -> None:
    _, up, _, down = bars(image_of("GAAAAAC", "(.....)"), 6)
    assert up == down == [7, 9, 11, 9, 7, 2]


def test_a_mismatch_of_a_and_c_is_seven_pixels() -> None:
    upper, up, lower, down = bars(image_of("GAGAAACCC", "(.(...).)"), 6)
    assert (upper[4], lower[4]) == ("A", "C")
    assert up[3:] == down[3:] == [2, 7, 2]


def test_letters_that_could_pair_are_lower_where_they_do_not() -> None:
    _, up, _, down = bars(image_of("GUGAAACAC", "(.(...).)"), 6)
    assert up[3:] == down[3:] == [2, 5, 2]


def test_brackets_share_a_column_whatever_their_letters() -> None:
    _, up, _, down = bars(image_of("AAGAAACUA", "(((...)))"), 6)
    assert up[3:] == down[3:] == [2, 3, 5]


def test_bulges_stand_opposite_black_stubs() -> None:
    # saw teeth: each base is two pixels higher than the one before it, seen from the loop
    upper, up, lower, down = bars(image_of("GAUUGAAACC", "(...(...))"), 8)
    assert "".join(upper[3:]) == "GUUAG"
    assert "".join(lower[3:]) == "C---C"
    assert up[3:] == [2, 4, 6, 8, 2]
    assert down[3:] == [2, 2, 2, 2, 2]
    upper, up, lower, down = bars(image_of("GGAAACAUUC", "((...)...)"), 8)
    assert "".join(upper[3:]) == "G---G"
    assert "".join(lower[3:]) == "CAUUC"
    assert up[3:] == [2, 2, 2, 2, 2]
    assert down[3:] == [2, 4, 6, 8, 2]


def test_bars_are_cut_at_the_edges() -> None:
    inner = "." * 8
    _, up, _, down = bars(image_of("G" + 8 * "A" + "GAAAC" + 8 * "A" + "C", f"({inner}(...){inner})"), 13)
    assert up[3:] == [2, 7, 9, 11, 13, 13, 13, 13, 13, 2]
    assert down[3:] == [2, 7, 9, 11, 12, 12, 12, 12, 12, 2]


def test_a_long_run_near_a_small_loop_falls_again() -> None:
    # it ends at columns 2 and 22: half their sum is 12, and its last place, 20, adds 2 * (24 - 20 + 1)
    _, up, _, down = bars(image_of("GA" + 18 * "A" + "AGACC", "(" + 20 * "." + "(.))"), 23)
    assert up[1:] == [2, 4, 6, 8, 10, 12, *[13] * 14, 12, 2]
    assert down[1:] == [2, *[2] * 20, 2]


def test_an_ambiguous_letter_is_black_and_pairs_with_nothing() -> None:
    upper, up, lower, down = bars(image_of("NGAAACC", "((...))"), 5)
    assert (upper[4], lower[4], up[4], down[4]) == ("-", "C", 5, 5)


def test_of_two_loops_equally_near_the_5_prime_one_is_central() -> None:
    # the bracket of the one and the base behind the other are base 5 of 10
    upper, up, lower, down = bars(image_of("GAAACGUUUC", "(...)(...)"), 4)
    # the 3' arm is that of the other hairpin, and cut where the 5' arm ends
    assert "".join(upper) == "AAAG"
    assert "".join(lower) == "UUUC"
    assert up == down == [5, 7, 5, 2]


def test_the_loop_nearest_to_the_middle_is_central() -> None:
    upper, up, lower, down = bars(image_of("GAAACUAGGGUCCC", "(...).(...)..."), 7)
    assert "".join(upper) == "AAAG---"
    assert "".join(lower) == "GGGUCCC"
    assert up == [7, 9, 7, 4, 2, 2, 2]
    assert down == [7, 9, 7, 4, 4, 6, 8]


def test_without_a_terminal_loop_the_image_is_white() -> None:
    structures = [".....", "(.().)", "", "(...)"]
    images, drawn = hairpin_images(*tables(["GAAAC", "GAGCAC", "", "GAAAC"], structures))
    assert drawn.tolist() == [False, False, False, True]
    assert (images[:3] == 255).all()
    assert (images[3] != 255).any()


def random_molecules(seed: int, lengths: list[int]) -> tuple[list[str], list[str]]:
    random = np.random.default_rng(seed)
    letters = np.array(list("ACGUN"))
    sequences = ["".join(random.choice(letters, n, p=[0.24, 0.24, 0.24, 0.24, 0.04])) for n in lengths]
    return sequences, [random_structure(random, n) for n in lengths]


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_rules_in_plain_python(seed: int) -> None:
    sequences, structures = random_molecules(seed, [*range(1, 120, 3), 150, 200, 260, 400])
    images, drawn = hairpin_images(*tables(sequences, structures, beyond=seed))
    assert images.shape == (len(sequences), ROWS, COLUMNS, 3)
    assert images.dtype == np.uint8
    for sequence, structure, image, seen in zip(sequences, structures, images, drawn, strict=True):
        expected = slow_image(sequence, structure)
        assert seen == (expected is not None)
        np.testing.assert_array_equal(image, 255 if expected is None else expected, err_msg=f"{sequence} {structure}")


def test_the_random_molecules_have_what_the_rules_are_about() -> None:
    structures = [text for seed in range(8) for text in random_molecules(seed, [*range(1, 120, 3), 150, 200, 260])[1]]
    loops = [len(re.findall(r"\(\.+\)", text)) for text in structures]
    assert {0, 1, 2, 3} <= set(loops)
    assert max(len(laid_out(text, text) or []) for text in structures) > COLUMNS


def test_the_open_end_of_a_long_molecule_is_lost() -> None:
    sequence, structure = 110 * "G" + "AAAA" + 110 * "C", 110 * "(" + "...." + 110 * ")"
    image = image_of(sequence, structure)
    np.testing.assert_array_equal(image_of(14 * "A" + sequence[14:-14] + 14 * "U", structure), image)
    assert (image_of(15 * "A" + sequence[15:], structure) != image).any()


def test_a_molecule_is_drawn_alike_in_any_company_and_any_table() -> None:
    sequences, structures = random_molecules(99, [60, 90, 30, 120])
    together, _ = hairpin_images(*tables(sequences, structures, beyond=20))
    for sequence, structure, image in zip(sequences, structures, together, strict=True):
        np.testing.assert_array_equal(hairpin_images(*tables([sequence], [structure]))[0][0], image)


def test_an_empty_batch() -> None:
    images, drawn = hairpin_images(np.zeros((0, 100), np.uint8), np.zeros(0, np.int64), np.zeros((0, 100), np.int16))
    assert images.shape == (0, 25, 100, 3)
    assert drawn.shape == (0,)


def test_shapes_and_lengths_are_checked() -> None:
    codes, lengths, partners = tables(["GAAAC", "GAAAC"], ["(...)", "....."])
    for wrong in (
        (codes[:, :-1], lengths, partners),
        (codes, lengths[:1], partners),
        (codes, lengths, partners[:1]),
        (codes[0], lengths, partners[0]),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            hairpin_images(*wrong)
    for length in (-1, 6):
        with pytest.raises(ValueError, match=f"{length}.* leave tables of 5 columns"):
            hairpin_images(codes, np.array([length, 5] if length < 0 else [5, length]), partners)


READ_BACK = {
    "benchmark_chen": 2366,
    "benchmark_dreplus": 287,
    "benchmark_ggaplus": 228,
    "benchmark_hsa": 1825,
    "benchmark_hsaplus": 522,
    "benchmark_hsapseudo": 3385,
    "benchmark_hsapseudo_test": 1014,
    "benchmark_hsapseudo_train": 2371,
    "benchmark_mirgenedb": 1429,
    "benchmark_mmu": 1126,
    "benchmark_mmuplus": 392,
    "benchmark_mmustar": 368,
    "benchmark_notbestfold": 233,
    "benchmark_shuffled": 472,
    "modhsa_test": 783,
    "modhsa_train": 1915,
}
"""Published images of simple hairpins, of which sequence and structure can be read back, by set."""


def published(shared_data: Path, name: str) -> tuple[list[dict[str, str]], np.ndarray]:
    """Molecules and images of one published set."""
    folder = shared_data / "papers" / "deepmir"
    with gzip.open(folder / "tsv" / f"{name}.tsv.gz", "rt") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    images = np.load(folder / f"{name}_images.npz")["arr_0"]
    assert len(rows) == len(images)
    return rows, images.astype(np.uint8)


@pytest.mark.real
@pytest.mark.parametrize("name", READ_BACK)
def test_published_images_of_simple_hairpins(shared_data: Path, name: str) -> None:
    rows, images = published(shared_data, name)
    known = [k for k, row in enumerate(rows) if row["image_struct"]]
    assert len(known) == READ_BACK[name]
    sequences = [rows[k]["image_seq"] for k in known]
    made, drawn = hairpin_images(*tables(sequences, [rows[k]["image_struct"] for k in known]))
    assert drawn.all()
    np.testing.assert_array_equal(made, images[known])


@pytest.mark.real
@pytest.mark.parametrize("name", ["benchmark_hsa", "benchmark_mmu"])
def test_published_images_of_any_precursor(shared_data: Path, name: str) -> None:
    """Multiloops cannot be read back, but every image is that of a structure near the optimum.

    ViennaRNA 2.1.3 made the images; what it found best a later version may price up to 2 kcal/mol above its own best.
    """
    rows, images = published(shared_data, name)
    sequences = [row["mirbase21_seq"] for row in rows]
    best, _ = hairpin_images(*tables(sequences, [structure for structure, _ in ViennaFolder().fold(sequences)]))
    same = (best == images).all(axis=(1, 2, 3))
    assert same.mean() > 0.85
    branched = [k for k in np.flatnonzero(~same) if not rows[k]["image_struct"]]
    assert branched
    for k in branched:
        near = [solution.structure for solution in RNA.fold_compound(sequences[k]).subopt(200)]
        assert any(
            (hairpin_images(*tables([sequences[k]] * len(part), part))[0] == images[k]).all(axis=(1, 2, 3)).any()
            for part in (near[start : start + 500] for start in range(0, len(near), 500))
        )
