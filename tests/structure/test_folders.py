"""Folders: ViennaRNA in processes, the stem-loop kernel against it, and a contig over threads."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import RNA

from mirscan.kernels.hairpins import INF
from mirscan.structure.engines import over_tiles
from mirscan.structure.folders import HairpinFolder, ViennaFolder
from mirscan.structure.turner import turner_tables

SHARED = Path(__file__).resolve().parents[3] / "shared"
LET_7 = "UGGGAUGAGGUAGUAGGUUGUAUAGUUUUAGGGUCACACCCACCACUGGGAGAUAACUAUACAAUCUACUGUCUUUCCUA"  # MI0000060


def random_sequences(count, seed, shortest=1, longest=120):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("ACGU"), rng.integers(shortest, longest))) for _ in range(count)]


def test_tables_hold_turner_2004():
    tables = turner_tables()
    assert tables is turner_tables()
    assert tables.stack[1 * 4 + 1, 2 * 4 + 2] == -330  # CC over GG
    assert tables.stack[0 * 4 + 3, 0 * 4 + 3] == -110  # AU over AU
    assert tables.hairpin[3] == 540
    assert tables.hairpin[31] == tables.hairpin[30] + int(107.856 * np.log(31 / 30))
    assert (tables.pair == 0).sum() == 6
    for name, table in tables._asdict().items():
        assert table.dtype == np.int16, name
        assert table.flags.c_contiguous, name
        assert abs(table.astype(int)).max() <= INF, name


@pytest.mark.parametrize("folder", [ViennaFolder(), HairpinFolder()])
def test_folders_take_dna_and_lower_case_and_refuse_nothing(folder):
    as_dna = folder.fold([LET_7.replace("U", "T").lower()])
    assert as_dna == folder.fold([LET_7])
    assert folder.fold([]) == []
    with pytest.raises(ValueError, match="sequence 1 is empty"):
        folder.fold([LET_7, ""])


def test_hairpin_folder_gives_rnafolds_structure_of_let_7():
    structure, energy = HairpinFolder().fold([LET_7])[0]
    expected, minimum = RNA.fold(LET_7)
    assert energy == pytest.approx(minimum, abs=0.005)
    assert structure == expected


def test_hairpin_folder_prices_its_structures_as_viennarna_does():
    sequences = [*random_sequences(300, 1), "A", "GGGAAACCC", "NNNNN", "A" * 300]
    for sequence, (structure, energy) in zip(sequences, HairpinFolder(chunk=7).fold(sequences), strict=True):
        assert len(structure) == len(sequence)
        assert energy == pytest.approx(RNA.eval_structure_simple(sequence, structure), abs=0.005)
        assert energy >= RNA.fold(sequence)[1] - 0.005
        assert ")" not in structure[: structure.rfind("(")]


def test_hairpin_folder_is_alone_with_each_sequence():
    sequences = random_sequences(40, 2, 40, 150)
    together = HairpinFolder().fold(sequences)
    assert together == [HairpinFolder().fold([sequence])[0] for sequence in sequences]


def test_processes_keep_order_and_lose_nothing():
    sequences = random_sequences(50, 3, 5, 40)
    with ViennaFolder(processes=2, chunk=3) as folder:
        assert folder.fold(sequences) == ViennaFolder().fold(sequences)
        assert folder.fold(sequences[:7]) == ViennaFolder().fold(sequences[:7])


def test_a_chunk_holds_something():
    with pytest.raises(ValueError, match="chunk 0"):
        ViennaFolder(2, chunk=0)


def test_an_error_in_a_tile_is_not_swallowed():
    def job(first, last):
        if first == 20:
            raise RuntimeError(f"tile {first} to {last}")
        return first

    assert over_tiles(job, 20, 2, tile=10) == [0, 10]
    with pytest.raises(RuntimeError, match="tile 20 to 25"):
        over_tiles(job, 25, 2, tile=10)
    assert over_tiles(job, 0, 2) == []


@pytest.mark.real
def test_human_precursors_have_rnafolds_energy():
    path = SHARED / "data/papers/deepmirgene/sequences/human_pos.fa.gz"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    with gzip.open(path, "rt") as lines:
        sequences = [line.strip() for line in lines if not line.startswith(">")]
    assert len(sequences) == 863
    exact, fast = ViennaFolder().fold(sequences), HairpinFolder().fold(sequences)
    expected, energies = np.array([energy for _, energy in exact]), np.array([energy for _, energy in fast])
    identical = np.abs(energies - expected) < 0.005
    assert (energies > expected - 0.005).all()
    assert identical.mean() >= 0.94
    assert np.corrcoef(energies, expected)[0, 1] >= 0.999
    same = 0
    for sequence, (structure, _), (kernel, energy), equal in zip(sequences, exact, fast, identical, strict=True):
        text = sequence.upper().replace("T", "U")
        assert energy == pytest.approx(RNA.eval_structure_simple(text, kernel), abs=0.005)
        same += equal and structure == kernel
    assert same >= 0.9 * identical.sum()  # the others are as low by another structure
