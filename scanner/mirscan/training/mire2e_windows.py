"""Precursors and background genomes to training examples, split so that no family and no place is in two parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from mirscan.errors import InputError
from mirscan.files.atomic import save_arrays
from mirscan.genome import open_genome
from mirscan.kernels.bases import AMBIGUOUS, reverse_complement
from mirscan.known.precursors import Locus, Precursor, group, known_kmers, read_loci, read_precursors
from mirscan.training.background import Background

PARTS = ("train", "validation", "test")
PRECURSOR, BACKGROUND, PSEUDO = 1, 0, 2
"""Labels: a known precursor, a window of a genome, a pseudo hairpin from coding sequence."""


def split(precursors: Sequence[Precursor], placed: dict[str, str], seed: int = 0) -> np.ndarray:
    """Part (0 train, 1 validation, 2 test; uint8) of each precursor, whole groups together.

    Parameters
    ----------
    placed : dict
        Precursor name to the part of the contig it lies on: its whole group goes there, the strictest part first.
    """
    groups = group(precursors)
    order = {part: rank for rank, part in enumerate(PARTS)}
    forced: dict[int, int] = {}
    for precursor, number in zip(precursors, groups, strict=True):
        if placed.get(precursor.name, "train") != "train":
            forced[number] = max(forced.get(number, 0), order[placed[precursor.name]])
    generator = np.random.default_rng(seed)
    drawn = {number: int(np.searchsorted((0.8, 0.9), generator.random())) for number in np.unique(groups)}
    return np.array([forced.get(number, drawn[number]) for number in groups], dtype=np.uint8)


def embed(generator: np.random.Generator, codes: np.ndarray, background: Background, window: int) -> np.ndarray:
    """A window (uint8) that holds a precursor at a random offset in real background of like composition.

    At least nine tenths of the precursor lie in the window, or nine tenths of the window in the precursor.
    """
    stretch = background.flanks(generator, codes).copy()
    stretch[window : window + len(codes)] = codes
    return place(generator, stretch, window, window + len(codes), window)


def place(generator: np.random.Generator, stretch: np.ndarray, start: int, end: int, window: int) -> np.ndarray:
    """A window of ``stretch`` at a random offset over ``[start, end)``, of which it misses at most a tenth."""
    shorter = min(end - start, window)
    slack = shorter // 10
    low, high = sorted((end - window, start))
    first = generator.integers(max(0, low - slack), min(high + slack, len(stretch) - window) + 1)
    return stretch[first : first + window]


@dataclass(frozen=True)
class Examples:
    """Windows to learn from; every array has one row a window."""

    codes: np.ndarray
    """uint8 (N, window)"""
    label: np.ndarray
    """uint8: `PRECURSOR`, `BACKGROUND` or `PSEUDO`"""
    part: np.ndarray
    """uint8: index into `PARTS`"""
    source: np.ndarray
    """int32: index of the precursor, -1 for a negative"""

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: np.ndarray) -> Examples:
        """Some rows: an index array or a mask."""
        return Examples(self.codes[rows], self.label[rows], self.part[rows], self.source[rows])

    def save(self, path: Path, **more: np.ndarray) -> None:
        """Write the arrays, and others with as many rows, to one compressed file."""
        arrays = {"codes": self.codes, "label": self.label, "part": self.part, "source": self.source}
        save_arrays(path, arrays | more)


@dataclass(frozen=True)
class Sources:
    """Where examples come from.

    ``genomes`` are (FASTA, GFF3 of known hairpins or None); ``held_out`` maps a glob over ``stem:contig`` to
    ``validation`` or ``test``, every other contig being for training.
    """

    precursors: Path
    genomes: tuple[tuple[Path, Path | None], ...]
    held_out: tuple[tuple[str, str], ...] = ()
    pseudo: Path | None = None
    clades: frozenset[str] = frozenset({"animal"})


@dataclass(frozen=True)
class Corpus:
    """`Sources`, read: precursors with their part, each part's background, and real flanks where a locus is known."""

    precursors: list[Precursor]
    part: np.ndarray
    backgrounds: dict[str, Background]
    flanked: dict[str, tuple[str, np.ndarray]]
    """Precursor name to (part of its contig, codes of the locus with a window of flank on each side, 5' to 3')."""
    pseudo: np.ndarray

    def windows(self, generator: np.random.Generator, number: int, window: int) -> np.ndarray:
        """One positive window (uint8) of precursor ``number``, with its real flanks half the time if known."""
        precursor, part = self.precursors[number], PARTS[self.part[number]]
        home = self.flanked.get(precursor.name)
        if home is not None and home[0] == part and generator.random() < 0.5:
            return place(generator, home[1], window, len(home[1]) - window, window)
        return embed(generator, precursor.codes, self.backgrounds[part], window)


def read_corpus(sources: Sources, spool: Path, window: int = 100, seed: int = 0) -> Corpus:
    """Read precursors and genomes, and split both.

    Raises
    ------
    InputError
        If a file cannot be read, or a part is left without background.
    """
    everything = read_precursors(sources.precursors)
    known = known_kmers(everything)
    contigs: dict[str, list[tuple[str, np.ndarray]]] = {part: [] for part in PARTS}
    loci: list[Locus] = []
    placed: dict[str, str] = {}
    flanked: dict[str, tuple[str, np.ndarray]] = {}
    for fasta, gff3 in sources.genomes:
        stem = fasta.name.split(".fa")[0]
        here = read_loci(gff3) if gff3 else []
        genome = open_genome(fasta, spool=spool)
        for index, contig in enumerate(genome.contigs):
            key = f"{stem}:{contig.name}"
            part = next((part for glob, part in sources.held_out if fnmatch(key, glob)), "train")
            codes = genome.codes(index, 0, contig.length)
            contigs[part].append((key, codes))
            for locus in (locus for locus in here if locus.contig == contig.name):
                loci.append(Locus(key, locus.start, locus.end, locus.strand, locus.name))
                placed[locus.name] = max(part, placed.get(locus.name, part), key=PARTS.index)
                if locus.start >= window and locus.end + window <= contig.length:
                    stretch = codes[locus.start - window : locus.end + window]
                    flanked[locus.name] = (part, reverse_complement(stretch) if locus.strand == "-" else stretch)
        genome.close()
    empty = [part for part in PARTS if not contigs[part]]
    if empty:
        raise InputError(f"no contig is left for {', '.join(empty)}: hold out other contigs")
    precursors = [p for p in everything if p.clade in sources.clades and _usable(p)]
    backgrounds = {part: Background(contigs[part], loci, known, window) for part in PARTS}
    pseudo = np.empty((0, window), dtype=np.uint8)
    if sources.pseudo is not None:
        generator = np.random.default_rng(seed)
        hairpins = [p.codes for p in read_precursors(sources.pseudo) if _usable(p)]
        pseudo = np.stack([embed(generator, codes, backgrounds["train"], window) for codes in hairpins])
    return Corpus(precursors, split(precursors, placed, seed), backgrounds, flanked, pseudo)


def _usable(precursor: Precursor) -> bool:
    return bool((precursor.codes < AMBIGUOUS).all()) and 40 <= len(precursor.codes) <= Background.LONGEST


def draw_examples(
    corpus: Corpus, *, copies: int, background: dict[str, int], window: int = 100, seed: int = 0
) -> Examples:
    """Windows of every part: ``copies`` of each precursor, pseudo hairpins (train), background windows by part."""
    generator = np.random.default_rng(seed)
    codes: list[np.ndarray] = []
    label: list[int] = []
    part: list[int] = []
    source: list[int] = []

    def add(rows: Sequence[np.ndarray] | np.ndarray, kind: int, where: int, origin: Sequence[int] | int) -> None:
        codes.extend(rows)
        label.extend([kind] * len(rows))
        part.extend([where] * len(rows))
        source.extend([origin] * len(rows) if isinstance(origin, int) else origin)

    for number, where in enumerate(corpus.part):
        rows = [corpus.windows(generator, number, window) for _ in range(copies)]
        add(rows, PRECURSOR, int(where), number)
    add(corpus.pseudo, PSEUDO, 0, -1)
    for where, name in enumerate(PARTS):
        count = background.get(name, 0)
        if count:
            add(corpus.backgrounds[name].draw(generator, count, window), BACKGROUND, where, -1)
    order = generator.permutation(len(codes))
    return Examples(
        np.stack(codes)[order],
        np.array(label, dtype=np.uint8)[order],
        np.array(part, dtype=np.uint8)[order],
        np.array(source, dtype=np.int32)[order],
    )
