"""Lower stems: who lacks one, who lends one, and what is left alone."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from mirscan.errors import InputError
from mirscan.known.precursors import Precursor
from mirscan.training.duplex_stems import cuts, read_arms, with_lower_stems

TABLE = """hairpin_id\thairpin_acc\tspecies\tstart1\tend1\tmature_name
x-mir-1\tMI1\tx\t61\t82\tx-miR-1-3p
x-mir-1\tMI1\tx\t16\t37\tx-miR-1-5p
x-mir-2\tMI2\tx\t3\t24\tx-miR-2
x-mir-3\tMI3\tx\t1\t40\tx-miR-3-5p
x-mir-3\tMI3\tx\t30\t50\tx-miR-3-3p
"""


def codes(seed: int, length: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, length).astype(np.uint8)


def arms_file(folder: Path) -> Path:
    path = folder / "arms.tsv.gz"
    path.write_bytes(gzip.compress(TABLE.encode()))
    return path


def test_arms_are_read_where_both_are_known_and_apart(tmp_path: Path) -> None:
    assert read_arms(arms_file(tmp_path)) == {"x-mir-1": (15, 82)}


@pytest.mark.parametrize("text", ["no\tsuch\tcolumns\n1\t2\t3\n", "hairpin_id\tstart1\tend1\nx\tone\t2\n"])
def test_another_table_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match="not a table of mature sequences"):
        read_arms(path)
    with pytest.raises(InputError, match="not a table of mature sequences"):
        read_arms(tmp_path / "absent.tsv")


def test_where_an_entry_is_cut() -> None:
    found = cuts(
        [
            Precursor("x-mir-1", "", codes(0, 97)),  # both matures known
            Precursor("Xxx-Mir-9_pre", "", codes(1, 75)),  # MirGeneDB
            Precursor("x-mir-4", "", codes(2, 60)),  # too short to hold more
            Precursor("x-mir-5", "", codes(3, 90)),  # nobody knows
        ],
        {"x-mir-1": (15, 82)},
    )
    assert found.tolist() == [[15, 82], [0, 75], [0, 60], [-1, -1]]


def test_who_lacks_a_lower_stem_gets_that_of_a_relative() -> None:
    lender, stranger = Precursor("x-mir-1", "", codes(0, 97)), Precursor("x-mir-7", "", codes(5, 97))
    short, whole = Precursor("Yyy-Mir-1-P1_pre", "", codes(1, 60)), Precursor("x-mir-5", "", codes(2, 90))
    orphan = Precursor("Yyy-Mir-99_pre", "", codes(4, 60))
    precursors = [lender, short, whole, orphan, stranger]
    places = cuts(precursors, {"x-mir-1": (15, 82), "x-mir-7": (12, 80)})
    done = with_lower_stems(precursors, places, np.ones(5, dtype=bool), np.random.default_rng(0))
    assert (done[0], done[2], done[4]) == (lender, whole, stranger)
    np.testing.assert_array_equal(done[1].codes, np.concatenate([lender.codes[:15], short.codes, lender.codes[82:]]))
    assert done[1].name == short.name
    lent = {
        tuple(np.concatenate([p.codes[:a], orphan.codes, p.codes[b:]]))
        for p, a, b in ((lender, 15, 82), (stranger, 12, 80))
    }
    assert tuple(done[3].codes) in lent

    only_stranger = np.array([False, True, True, True, True])
    done = with_lower_stems(precursors, places, only_stranger, np.random.default_rng(0))
    np.testing.assert_array_equal(done[1].codes[:12], stranger.codes[:12])
    untouched = with_lower_stems(precursors, places, np.zeros(5, dtype=bool), np.random.default_rng(0))
    assert untouched == precursors
