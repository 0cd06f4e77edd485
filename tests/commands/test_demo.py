"""The example genome, and what `mirscan demo` says of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mirscan.commands.demo import (
    CONTIGS,
    GAP,
    PRECURSORS,
    SOFT_MASKED,
    Place,
    background,
    compare,
    demonstrate,
    example_genome,
    read_places,
)
from mirscan.errors import InputError
from mirscan.genome import open_genome
from mirscan.store import ScoreStore


def reverse_complement(dna: str) -> str:
    return dna[::-1].translate(str.maketrans("ACGT", "TGCA"))


def test_every_precursor_stands_where_the_truth_says() -> None:
    genome, planted = example_genome()
    given = {record.split()[1]: record.split()[2].replace("U", "T") for record in PRECURSORS.split(">")[1:]}
    assert len(planted) == len(given) <= 12
    for hairpin in planted:
        letters = genome[hairpin.contig][hairpin.start : hairpin.end].upper()
        assert given[hairpin.accession] == (letters if hairpin.strand == "+" else reverse_complement(letters))
    assert {hairpin.strand for hairpin in planted if hairpin.contig == "demo1"} == {"+", "-"}


def test_the_example_genome_has_a_gap_a_soft_mask_and_always_the_same_bytes() -> None:
    genome, _ = example_genome()
    assert {name: len(sequence) for name, sequence in genome.items()} == CONTIGS
    contig, start, end = GAP
    assert [m.span() for m in re.finditer("N+", genome[contig])] == [(start, end)]
    contig, start, end = SOFT_MASKED
    assert [m.span() for m in re.finditer("[acgt]+", genome[contig])] == [(start, end)]
    assert example_genome()[0] == genome
    assert example_genome(seed=1)[0] != genome


def test_the_background_is_composed_like_a_vertebrate_genome() -> None:
    sequence = background(60_000, np.random.default_rng(5))
    share = {letter: sequence.count(letter) / len(sequence) for letter in "ACGT"}
    assert 0.35 < share["G"] + share["C"] < 0.5
    cpg = sequence.count("CG") / len(sequence) / (share["C"] * share["G"])
    assert 0.1 < cpg < 0.35
    runs = len(re.findall("(?=AAAAAA)", sequence))
    assert runs > 1.5 * len(sequence) * share["A"] ** 6


@pytest.fixture(scope="module")
def shown(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("demo")
    return out, demonstrate(out, model="mire2e-tiny", weights=tiny_weights)


def test_ranks_and_percentiles_are_those_of_a_plain_recount(shown: tuple[Path, str]) -> None:
    store = ScoreStore.open(str(shown[0] / "demo.bw.store"))
    _, planted = example_genome()
    hairpin = planted[-1]
    found = compare(store, planted, [Place(hairpin.contig, hairpin.start, hairpin.end, "+")])

    scores = np.concatenate([part for _, part in store.iter_scores()])
    first = (CONTIGS["demo1"] - 100) // 20 + 1  # window on the axis where the second contig begins
    over = [
        float(scores[first + k, "+-".index(hairpin.strand)])
        for k in range((CONTIGS["demo2"] - 100) // 20 + 1)
        if min(hairpin.end, 20 * k + 100) - max(hairpin.start, 20 * k) >= 0.8 * (hairpin.end - hairpin.start)
    ]
    every = sorted((x for x in scores.ravel().tolist() if x == x), reverse=True)
    assert found[-1].windows == len(over) > 1
    assert found[-1].score == max(over)
    assert every[found[-1].rank - 1] == max(over)
    below, ties = sum(x < max(over) for x in every), every.count(max(over))
    assert found[-1].percentile == pytest.approx(100 * (below + ties / 2) / len(every))
    assert [row.called for row in found] == ["no"] * 11 + ["yes" if hairpin.strand == "+" else "other strand"]


def test_the_text_names_every_hairpin_and_every_file(shown: tuple[Path, str]) -> None:
    out, text = shown
    for record in PRECURSORS.split(">")[1:]:
        assert record.split()[1] in text
    assert "IGV" in text
    assert "chance" in text
    named = re.search(r"files are in .*?: (.*)", text)
    assert named
    assert len(named[1].split()) >= 9
    for name in named[1].split():
        assert (out / name).stat().st_size > 0
    assert f"among the {len(read_places(out / 'demo.bed'))} calls" in text
    with open_genome(out / "demo.fa", spool=out / "spool") as genome:
        assert {contig.name: contig.length for contig in genome.contigs} == CONTIGS


def test_again_nothing_is_scanned_and_the_text_is_equal(shown: tuple[Path, str], tiny_weights: Path) -> None:
    out, text = shown
    reports: list[object] = []
    assert demonstrate(out, model="mire2e-tiny", weights=tiny_weights, report=reports.append) == text
    assert not reports


def test_a_file_in_the_way_is_one_clear_line(tmp_path: Path, tiny_weights: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--out: .*file is a file"):
        demonstrate(tmp_path / "file", model="mire2e-tiny", weights=tiny_weights)
