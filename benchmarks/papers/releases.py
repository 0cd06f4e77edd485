"""Section 4.2 of the miRe2e paper with the data at hand: learn the human miRBase 21, find what miRBase 22 added.

Positives are by accession, as in the paper. The paper's negatives (hairpins by HextractoR, and flats) were not
published: here they are drawn from two pieces of the human genome, one to learn from and one to be judged on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from data import Labelled, family_of, read_fasta

from mirscan.kernels.bases import decode, encode, reverse_complement
from mirscan.kernels.hairpins import Tables
from mirscan.known.precursors import read_loci
from mirscan.structure.engines import over_tiles
from mirscan.structure.proposals import propose
from mirscan.structure.turner import turner_tables

PUBLISHED = {"train": (1_854, 87_500, 787_500), "test": (27, 12_500, 112_500)}
"""The paper's positives, hairpins and flats."""
ENTRIES = {"v21": 1_881, "v22": 1_917}
"""Human precursors of the releases; the shared copies hold fewer."""
GENOMES = {"train": ("hsa_GRCh38_chr1_1-10Mb", "hsa_GRCh38_chr9_1-1Mb"), "test": ("hsa_GRCh38_chr2_1-2.3Mb",)}
WINDOW = 100
TILE = 1 << 18


def human(data: Path, release: str) -> dict[str, tuple[str, str]]:
    """Accession to name and RNA of the human precursors of a release, ``v21`` or ``v22``."""
    entries = read_fasta(data / "papers" / "mire2e" / f"{release}_hsa_hairpin.fa.gz")
    records = ((header.split(), rna) for header, rna in entries)
    return {fields[1]: (fields[0], rna) for fields, rna in records if fields[0].startswith("hsa-")}


def positives(data: Path) -> tuple[Labelled, Labelled]:
    """What is trained on, human entries of release 21 that are still in 22, and what is found: those new in 22."""
    old, new = human(data, "v21"), human(data, "v22")
    kept = [old[accession] for accession in old if accession in new]
    added = [new[accession] for accession in new if accession not in old]
    return _all_positive(kept), _all_positive(added)


def _all_positive(records: list[tuple[str, str]]) -> Labelled:
    names, sequences = zip(*records, strict=True)
    return Labelled(
        names, sequences, np.ones(len(names), dtype=bool), tuple(map(family_of, names)), ("miRBase",) * len(names)
    )


class _Strand(NamedTuple):
    """One strand of a contig, and where negatives may begin and end on it."""

    name: str
    codes: np.ndarray
    minus: bool
    hairpins: np.ndarray
    """(H, 2) int64: start, end."""
    flats: np.ndarray
    """(F,) int64: start."""


def negatives(data: Path, part: Literal["train", "test"], hairpins: int, flats: int, seed: int = 0) -> Labelled:
    """Hairpins, then flats, of the human genome, drawn without replacement; ``origins`` tells which.

    Parameters
    ----------
    hairpins : int
        Stem-loops as `mirscan.structure.proposals.propose` bounds them, at most 120 bases, on either strand.
    flats : int
        Stretches of 100 bases that wholly contain no such stem-loop on their strand.

    Raises
    ------
    ValueError
        If the genome has fewer.

    Notes
    -----
    Neither touches an ambiguous base or, on either strand, a known precursor of miRBase 22.
    """
    generator = np.random.default_rng(seed)
    tables = turner_tables()
    strands = [strand for stem in GENOMES[part] for strand in _strands(data / "genomes", stem, tables)]
    kinds = {
        "hairpin": (hairpins, [strand.hairpins for strand in strands]),
        "flat": (flats, [np.stack([strand.flats, strand.flats + WINDOW], axis=1) for strand in strands]),
    }
    names, sequences, origins = [], [], []
    for kind, (count, places) in kinds.items():
        owner = np.repeat(np.arange(len(strands)), [len(place) for place in places])
        if count > len(owner):
            raise ValueError(f"{count} negatives of the kind {kind} were asked for, the genome has {len(owner)}")
        everywhere = np.concatenate(places)
        for row in generator.choice(len(owner), count, replace=False):
            strand, (start, end) = strands[owner[row]], everywhere[row]
            low, high = (len(strand.codes) - end, len(strand.codes) - start) if strand.minus else (start, end)
            names.append(f"{strand.name}:{low}-{high}({'-' if strand.minus else '+'})")
            sequences.append(decode(strand.codes[start:end]).decode().replace("T", "U"))
            origins.append(kind)
    none = np.zeros(len(names), dtype=bool)
    return Labelled(tuple(names), tuple(sequences), none, ("",) * len(names), tuple(origins))


def _strands(genomes: Path, stem: str, tables: Tables) -> list[_Strand]:
    annotation = genomes / f"{stem}.gff3"
    loci = read_loci(annotation) if annotation.exists() else []
    found = []
    for header, letters in read_fasta(genomes / f"{stem}.fa.gz"):
        codes = encode(np.frombuffer(letters.encode("ascii"), dtype=np.uint8))
        barred = codes > 3
        for locus in loci:
            if locus.contig == header.split()[0]:
                barred[locus.start : locus.end] = True
        for minus in (False, True):
            turned = (reverse_complement(codes), barred[::-1]) if minus else (codes, barred)
            found.append(_Strand(header.split()[0], turned[0], minus, *_places(*turned, tables)))
    return found


def _places(codes: np.ndarray, barred: np.ndarray, tables: Tables) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of the hairpins of a strand, and starts of its flats."""
    tiles = over_tiles(lambda first, last: propose(codes, tables, first, last), len(codes), threads=1, tile=TILE)
    starts = np.concatenate([tile.starts for tile in tiles])
    ends = np.concatenate([tile.ends for tile in tiles])
    before = np.concatenate([[0], np.cumsum(barred)])
    # the first end of any hairpin that starts at a base or after it: a stretch that ends before it contains none
    nearest = np.full(len(codes) + 1, 2 * len(codes), dtype=np.int64)
    np.minimum.at(nearest, starts, ends)
    nearest = np.minimum.accumulate(nearest[::-1])[::-1]
    windows = np.arange(len(codes) - WINDOW + 1)
    flat = (nearest[windows] > windows + WINDOW) & (before[windows + WINDOW] == before[windows])
    kept = before[ends] == before[starts]
    return np.stack([starts[kept], ends[kept]], axis=1), windows[flat]
