"""Hairpins to learn from: proposals of genomes beside the known loci, and precursors folded in a borrowed context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mirscan.kernels.words import MIXER
from mirscan.known.precursors import Locus, Precursor, group, kmers
from mirscan.structure.hairpins import Hairpins, contig_hairpins
from mirscan.training.background import Background

BACKGROUND, PRECURSOR, ANTISENSE, UNCLEAR = range(4)
"""Labels of hairpins: of no known locus, on a known locus, on its other strand, on a part or a homologue of one."""
SKETCH = 24
"""Bits of the table that tells most words of a genome from the known ones at a glance."""
SURROUND = 100
"""Borrowed bases on each side of an embedded precursor: as far as a competing hairpin could reach."""
HOMOLOGY, SUPPORT, IDENTITY = 20, 18, 30
"""Lengths of shared words: of an unlabelled homologue, of a precursor MirGeneDB supports, of one locus in two lists."""
CROWDING = 0.25
"""Power of a family's size by which the weight of its members shrinks. With 0.5 a doubtful loner outweighs a
supported member of a large family."""
BALANCE = 0.5
"""Power of a lineage's sum by which its members' weight shrinks: seven tenths of the weight were of vertebrates."""
NOISE = 0.06
"""Standard deviation of the G+C share by which a borrowed context departs from the precursor's own: real loci do."""


@dataclass(frozen=True)
class Curated:
    """Labelled hairpins of one or many contigs, a row each."""

    hairpins: Hairpins
    label: np.ndarray
    """uint8: `BACKGROUND`, `PRECURSOR`, `ANTISENSE` or `UNCLEAR`"""
    source: np.ndarray
    """int32: number of the precursor or locus, -1 where there is none"""

    def take(self, rows: np.ndarray) -> Curated:
        """Some rows: an index array or a mask."""
        return Curated(self.hairpins.take(rows), self.label[rows], self.source[rows])


def label_hairpins(codes: np.ndarray, found: Hairpins, loci: Sequence[Locus], known: np.ndarray) -> Curated:
    """Label the hairpins of one contig by its known loci.

    A hairpin is a locus' own where it covers at least half of it on its strand and is at most three times as long; on
    the other strand it is its antisense, a negative of its own kind. What covers a locus less well, and what shares a
    word of twenty bases with any known precursor of either strand, is left out of the negatives.

    Parameters
    ----------
    codes : (n,) uint8
        The contig, plus strand.
    found : Hairpins
        In the order of centres.
    loci : sequence of Locus
        Of this contig; ``source`` counts them.
    known : np.ndarray
        From `mirscan.known.precursors.known_kmers`.
    """
    label = np.zeros(found.size, dtype=np.uint8)
    source = np.full(found.size, -1, dtype=np.int32)
    label[_shares_word(codes, found, known)] = UNCLEAR
    centres = found.starts + found.ends
    ranked = {BACKGROUND: 0, UNCLEAR: 0, ANTISENSE: 1, PRECURSOR: 2}
    for number, locus in enumerate(loci):
        reach = 2 * (locus.end - locus.start) + 400
        low, high = np.searchsorted(centres, [locus.start + locus.end - reach, locus.start + locus.end + reach])
        for row in range(int(low), int(high)):
            length = found.ends[row] - found.starts[row]
            overlap = min(found.ends[row], locus.end) - max(found.starts[row], locus.start)
            if overlap <= 0:
                continue
            whole = 2 * overlap >= locus.end - locus.start and length <= 3 * (locus.end - locus.start)
            same = bool(found.minus[row]) == (locus.strand == "-")
            kind = (PRECURSOR if same else ANTISENSE) if whole else UNCLEAR
            if ranked[kind] >= ranked[int(label[row])]:
                label[row], source[row] = kind, number
    return Curated(found, label, source)


def _shares_word(codes: np.ndarray, found: Hairpins, known: np.ndarray) -> np.ndarray:
    before = np.concatenate([[0], np.cumsum(_among(kmers(codes, HOMOLOGY), known))])
    last = len(before) - 1
    stops = np.clip(found.ends - HOMOLOGY + 1, found.starts, None)
    return before[np.minimum(stops, last)] > before[np.minimum(found.starts, last)]


def _among(words: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which words (bool) stand in a sorted list; those with an ambiguous base never do."""
    found = np.zeros(len(words), dtype=bool)
    if not known.size:
        return found
    rows = np.flatnonzero(words != np.iinfo(np.uint64).max)
    if len(words) > len(known):  # a genome's words are rarely known: only what the sketch has is looked up
        sketch = np.zeros(1 << SKETCH, dtype=bool)
        sketch[_slots(known)] = True
        rows = rows[sketch[_slots(words[rows])]]
    place = np.minimum(np.searchsorted(known, words[rows]), len(known) - 1)
    found[rows] = known[place] == words[rows]
    return found


def _slots(words: np.ndarray) -> np.ndarray:
    return (words * MIXER) >> np.uint64(64 - SKETCH)


def embed_precursors(
    precursors: Sequence[Precursor], background: Background, generator: np.random.Generator, threads: int = 1
) -> Curated:
    """Fold precursors as if they stood in a genome: each in a stretch of background of like composition.

    Of every precursor the best proposal on it is kept, and the best on its other strand; ``source`` is its number.
    Precursors without any proposal are missing. Coordinates mean nothing.
    """
    pieces: list[np.ndarray] = []
    loci: list[Locus] = []
    length = 0
    for precursor in precursors:
        codes = precursor.codes
        share = ((codes == 1) | (codes == 2)).mean() + generator.normal(0.0, NOISE)
        near = int(np.clip(np.searchsorted(background.share, share) - 32, 0, len(background.pool) - 64))
        stretch = background.pool[near + generator.integers(64)]
        pieces += [stretch[:SURROUND], codes, stretch[-SURROUND:]]
        loci.append(Locus("", length + SURROUND, length + SURROUND + len(codes), "+", precursor.name))
        length += 2 * SURROUND + len(codes)
    codes = np.concatenate(pieces)
    found = contig_hairpins(codes, threads=threads)
    labelled = label_hairpins(codes, found, loci, np.empty(0, dtype=np.uint64))
    chosen = np.flatnonzero((labelled.label == PRECURSOR) | (labelled.label == ANTISENSE))
    order = chosen[np.lexsort((found.energies[chosen], labelled.label[chosen], labelled.source[chosen]))]
    key = labelled.source[order].astype(np.int64) * 4 + labelled.label[order]
    return labelled.take(order[np.concatenate([[True], np.diff(key) != 0])])


def precursor_weights(precursors: Sequence[Precursor], curated: Sequence[Precursor], doubtful: float) -> np.ndarray:
    """Weight (float32) of each precursor, mean 1: what MirGeneDB supports counts more, a large family a little less,
    and a lineage with few precursors more than one with many.

    Parameters
    ----------
    precursors : sequence of Precursor
    curated : sequence of Precursor
        MirGeneDB.
    doubtful : float
        Weight of the others relative to those supported.
    """
    _, number, size = np.unique(group(precursors), return_inverse=True, return_counts=True)
    weight = np.where(supported(precursors, curated), 1.0, doubtful) / size[number] ** CROWDING
    _, lineage = np.unique([p.lineage for p in precursors], return_inverse=True)
    weight /= np.bincount(lineage, weight)[lineage] ** BALANCE
    return (weight / weight.mean()).astype(np.float32)


def supported(precursors: Sequence[Precursor], curated: Sequence[Precursor]) -> np.ndarray:
    """Which precursors (bool) share a word of eighteen bases with MirGeneDB; so do viruses, which it does not hold."""
    words = np.unique(np.concatenate([kmers(p.codes, SUPPORT) for p in curated]))
    return np.array([p.clade == "virus" or bool(_among(kmers(p.codes, SUPPORT), words).any()) for p in precursors])


def held_out(precursors: Sequence[Precursor], loci: Sequence[Locus], species: str) -> np.ndarray:
    """Which precursors (bool) are one of the evaluated loci of a species: by name, or by a word of thirty bases.

    Orthologues in other species stay: a new genome of a known clade has them too.
    """
    names = {locus.name for locus in loci}
    words = [kmers(p.codes, IDENTITY) for p in precursors if p.name in names]
    known = np.unique(np.concatenate(words)) if words else np.empty(0, dtype=np.uint64)
    return np.array(
        [
            p.name in names or (p.species == species and bool(_among(kmers(p.codes, IDENTITY), known).any()))
            for p in precursors
        ]
    )
