"""Training examples: what is split stays split, and what is negative holds no precursor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirscan.errors import InputError
from mirscan.kernels.bases import decode, reverse_complement
from mirscan.known.precursors import (
    LINEAGES,
    PLANTS,
    Locus,
    Precursor,
    group,
    kmers,
    known_kmers,
    read_loci,
    read_precursors,
)
from mirscan.training.background import Background
from mirscan.training.mire2e_windows import PRECURSOR, Sources, draw_examples, place, read_corpus, split


def bases(generator: np.random.Generator, length: int) -> np.ndarray:
    return generator.integers(0, 4, length).astype(np.uint8)


def precursor(generator: np.random.Generator, name: str, organism: str = "Some animal", length: int = 80) -> Precursor:
    return Precursor(name, organism, bases(generator, length))


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("hsa-mir-30c-2", "mir-30"),
        ("cel-let-7", "let-7"),
        ("dme-bantam", "bantam-"),
        ("Hsa-Mir-10-P1a_pre", "mir-10"),
        ("ebv-mir-BART2", "mir-"),
        ("ath-MIR156a", "mir-156"),
    ],
)
def test_families_by_name(name: str, family: str) -> None:
    assert Precursor(name, "", np.zeros(1, np.uint8)).family == family


def test_clades() -> None:
    codes = np.zeros(60, np.uint8)
    assert Precursor("hsa-mir-1", "Homo sapiens miR-1", codes).clade == "animal"
    assert Precursor("ath-MIR156a", "Arabidopsis thaliana", codes).clade == "plant"
    assert Precursor("ebv-mir-BART2", "Epstein Barr virus", codes).clade == "virus"


def test_lineages() -> None:
    codes = np.zeros(60, np.uint8)
    lineages = {"hsa": "vertebrate", "Cel": "nematode", "dme": "arthropod", "Spu": "other invertebrate", "ath": "plant"}
    for species, lineage in lineages.items():
        assert Precursor(f"{species}-Mir-1", "", codes).lineage == lineage
    assert Precursor("ebv-mir-BART2", "Epstein Barr virus", codes).lineage == "virus"
    assert PLANTS & set(LINEAGES) <= {"hvu"}  # barley in miRBase, Hydra in MirGeneDB


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=12, max_size=40))
def test_kmers_are_base_four_numbers(letters: list[int]) -> None:
    codes = np.array(letters, dtype=np.uint8)
    found = kmers(codes, 5)
    for start in range(len(codes) - 4):
        word = letters[start : start + 5]
        expected = np.iinfo(np.uint64).max if 4 in word else sum(c * 4 ** (4 - i) for i, c in enumerate(word))
        assert found[start] == expected


def test_groups_join_names_and_shared_words() -> None:
    generator = np.random.default_rng(0)
    a, b, c = (precursor(generator, f"hsa-mir-{n}") for n in (1, 2, 3))
    d = Precursor("mmu-mir-900", "", np.concatenate([bases(generator, 20), c.codes[10:50]]))
    e = precursor(generator, "mmu-mir-1")
    groups = group([a, b, c, d, e])
    assert groups[0] == groups[4]
    assert groups[2] == groups[3]
    assert len(set(groups.tolist())) == 3


def test_a_family_is_in_one_part_and_follows_its_place() -> None:
    generator = np.random.default_rng(0)
    precursors = [precursor(generator, f"{s}-mir-{n}") for n in range(1, 120) for s in ("hsa", "mmu")]
    parts = split(precursors, {"hsa-mir-7": "test", "mmu-mir-9": "validation", "hsa-mir-9": "train"})
    assert (parts[::2] == parts[1::2]).all()
    assert parts[2 * 6] == 2
    assert parts[2 * 8] == 1
    assert set(parts.tolist()) == {0, 1, 2}
    assert 0.6 < (parts == 0).mean() < 0.95


@settings(deadline=None, max_examples=80)
@given(st.integers(40, 240), st.integers(0, 10_000))
def test_windows_hold_nine_tenths_of_a_precursor(length: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    stretch = np.zeros(length + 200, dtype=np.uint8)
    stretch[100 : 100 + length] = 1
    window = place(generator, stretch, 100, 100 + length, 100)
    assert len(window) == 100
    assert window.sum() >= min(length, 100) - min(length, 100) // 10


def test_offsets_cover_the_window() -> None:
    generator = np.random.default_rng(3)
    stretch = np.zeros(260, dtype=np.uint8)
    stretch[100:160] = 1
    firsts = {int(place(generator, stretch, 100, 160, 100).argmax()) for _ in range(600)}
    assert min(firsts) == 0
    assert max(firsts) >= 44


def test_background_is_free_of_precursors() -> None:
    generator = np.random.default_rng(1)
    known = [precursor(generator, f"hsa-mir-{n}") for n in range(4)]
    contig = bases(generator, 60_000)
    contig[1000:1080] = known[0].codes
    contig[9000:9080] = reverse_complement(known[1].codes)
    contig[30_000:30_080] = known[2].codes
    words = known_kmers(known[:2])
    background = Background([("c", contig)], [Locus("c", 30_000, 30_080, "+", "hsa-mir-2")], words, 100)
    drawn = background.draw(generator, 8000, 100)
    assert drawn.shape == (8000, 100)
    assert (drawn < 4).all()
    assert not np.isin(kmers(drawn, 20), known_kmers(known[:3])).any()
    assert len(np.unique(drawn, axis=0)) > 7000


def write_sources(folder: Path) -> Sources:
    generator = np.random.default_rng(2)
    precursors = [precursor(generator, f"hsa-mir-{n}") for n in range(1, 60)]
    lines = [
        f">{p.name} MI{n:07} Homo sapiens x stem-loop\n{decode(p.codes).decode()}\n" for n, p in enumerate(precursors)
    ]
    (folder / "known.fa").write_text("".join(lines))
    contigs = {name: bases(generator, 30_000) for name in ("a", "b", "c")}
    contigs["c"][500:580] = reverse_complement(precursors[4].codes)
    (folder / "g.fa").write_text("".join(f">{n}\n{decode(c).decode()}\n" for n, c in contigs.items()))
    (folder / "g.gff3").write_text(
        "##gff-version 3\nc\t.\tmiRNA_primary_transcript\t501\t580\t.\t-\t.\tID=x;Name=hsa-mir-5\n"
    )
    genomes = ((folder / "g.fa", folder / "g.gff3"),)
    return Sources(folder / "known.fa", genomes, (("g:b", "validation"), ("g:c", "test")))


def test_corpus_and_examples(tmp_path: Path) -> None:
    corpus = read_corpus(write_sources(tmp_path), tmp_path / "spool")
    names = [p.name for p in corpus.precursors]
    home = names.index("hsa-mir-5")
    assert corpus.part[home] == 2
    part, stretch = corpus.flanked["hsa-mir-5"]
    assert part == "test"
    assert np.array_equal(stretch[100:-100], corpus.precursors[home].codes)
    examples = draw_examples(corpus, copies=2, background={"train": 300, "validation": 40, "test": 30})
    assert len(examples) == 2 * len(names) + 370
    again = draw_examples(corpus, copies=2, background={"train": 300, "validation": 40, "test": 30})
    assert np.array_equal(examples.codes, again.codes)
    positive = examples.label == PRECURSOR
    assert (examples.part[positive] == corpus.part[examples.source[positive]]).all()
    assert (examples.source[~positive] == -1).all()


def test_a_part_without_background_is_refused(tmp_path: Path) -> None:
    sources = write_sources(tmp_path)
    with pytest.raises(InputError, match="validation"):
        read_corpus(Sources(sources.precursors, sources.genomes, (("g:c", "test"),)), tmp_path / "spool")


@pytest.mark.parametrize("content", ["", "no header\nACGU\n", ">\nACGU\n"])
def test_bad_precursors_are_one_clear_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.fa"
    path.write_text(content)
    with pytest.raises(InputError, match=r"x\.fa"):
        read_precursors(path)


def test_bad_gff3_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "x.gff3"
    path.write_text("##gff-version 3\nchr1\tonly three\tcolumns\n")
    with pytest.raises(InputError, match=r"x\.gff3:2"):
        read_loci(path)
