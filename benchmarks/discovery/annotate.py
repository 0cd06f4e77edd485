"""Annotate mode on the worm chromosomes, each without its own loci among the known precursors.

    python benchmarks/discovery/annotate.py ../shared/data --work FOLDER [--name run] [--by-energy]

After cross_fit.py, whose hairpin tables and scores are in the work folder. Of miRBase and MirGeneDB (no plants) the
loci of a chromosome leave by name and by a shared word of thirty bases within the species; orthologues stay. The
weights of the combination are fitted on the other chromosomes. `--by-energy` takes the energy residual for the score
where there is none yet. The last line holds the weights fitted on all chromosomes, for
`mirscan.calls.annotation.WEIGHTS`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from corpus import unique, unseen_scores

from mirscan.calls.annotation import CHANCE, CLAIM, Weights, annotation, count_claims, evidence, fit_annotation
from mirscan.evaluation.matching import Figures, Places, evaluate_calls
from mirscan.genome import open_genome
from mirscan.kernels.homology import similarity
from mirscan.known.homology import index_known
from mirscan.known.precursors import Precursor, read_loci, read_precursors
from mirscan.scanning.jobs import HAIRPIN
from mirscan.structure.copies import count_copies
from mirscan.structure.hairpins import SCALARS, Hairpins
from mirscan.training.duplex_labels import PRECURSOR, held_out, label_hairpins

STEM = "cel_ce10_chrI_II_III_M"
CHROMOSOMES = ("chrI", "chrII", "chrIII")
RELATED = 1.5
"""A known hairpin has a relative if its homology is at least this many times that of chance."""


class Chromosome(NamedTuple):
    """Hairpins of a chromosome and what ranks them."""

    name: str
    calls: Places
    loci: Places
    megabases: float
    positive: np.ndarray
    logits: np.ndarray
    homology: np.ndarray
    shown: np.ndarray
    """Evidence (`mirscan.calls.annotation.evidence`)."""


def read_worm(data: Path, work: Path, scores: dict[str, np.ndarray], *, by_energy: bool) -> list[Chromosome]:
    """The chromosomes that have scores, compared with known precursors."""
    precursors = [
        p
        for path in ("mirbase/v22_hairpin.fa.gz", "mirgenedb/precursors.fa.gz")
        for p in read_precursors(data / path)
        if p.clade != "plant"
    ]
    chromosomes = []
    with open_genome(data / "genomes" / f"{STEM}.fa.gz", spool=work) as genome:
        copies = count_copies(genome.codes, [contig.length for contig in genome.contigs])
        for index, contig in enumerate(genome.contigs):
            key = f"{STEM}:{contig.name}"
            if contig.name not in CHROMOSOMES or not (key in scores or by_energy):
                continue
            codes = np.array(genome.codes(index, 0, contig.length))
            found = Hairpins(*(np.load(work / key / f"{name}.npy") for name in Hairpins._fields))
            loci = unique([x for x in read_loci(data / "genomes" / f"{STEM}.gff3") if x.contig == contig.name])
            left = [p for p, out in zip(precursors, held_out(precursors, loci, "cel"), strict=True) if not out]
            homology, shown = compare(codes, found, left, copies.of(codes, found.starts, found.ends))
            residual = found.scalars[:, SCALARS.index("energy_residual")]
            known = Places(*map(np.array, zip(*((0, x.start, x.end, x.strand == "-") for x in loci), strict=True)))
            chromosomes.append(
                Chromosome(
                    contig.name,
                    Places(np.zeros(found.size, dtype=np.int64), found.starts, found.ends, found.minus),
                    known,
                    float((codes < 4).sum()) / 1e6,
                    label_hairpins(codes, found, loci, np.empty(0, dtype=np.uint64)).label == PRECURSOR,
                    -residual if by_energy else scores[key],
                    homology,
                    shown,
                )
            )
    return chromosomes


def compare(
    codes: np.ndarray, found: Hairpins, precursors: Sequence[Precursor], copies: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Homology of the hairpins of a contig, and the evidence in it."""
    began = time.process_time()
    words = index_known(precursors).words
    indexed = time.process_time()
    homology, best = similarity(codes, found.starts, found.ends, found.minus, words)
    print(
        f"# {len(precursors)} precursors indexed in {indexed - began:.1f} s, {found.size} hairpins compared in"
        f" {time.process_time() - indexed:.1f} s; homology: median {np.median(homology)},"
        f" 90 % {np.quantile(homology, 0.9)}"
    )
    table = np.zeros(found.size, dtype=HAIRPIN)
    columns = {"start": found.starts, "end": found.ends, "minus": found.minus, "homology": homology, "known": best}
    for name, column in columns.items():
        table[name] = column
    claims = np.append(count_claims(table, len(precursors)), 0)[best]
    return homology, evidence(homology, copies, claims)


def row(name: str, by: str, figures: Figures) -> str:
    """A line of Markdown."""
    recall = " ".join(f"{figures.recall[rate]:.2f}" for rate in figures.recall)
    average = f"{figures.average_precision:.3f} ({figures.interval[0]:.2f}-{figures.interval[1]:.2f})"
    return f"| {name} | {by} | {average} | {figures.max_f1:.3f} | {recall} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", default="run", help="of the trained weights in the work folder")
    parser.add_argument("--by-energy", action="store_true")
    parser.add_argument("--positive-weight", type=float, default=1.0)
    options = parser.parse_args()
    scores = unseen_scores(options.work / options.name)
    worm = read_worm(options.data, options.work, scores, by_energy=options.by_energy)
    if not worm:
        parser.error(f"no scores of {STEM} in {options.work / options.name}; run cross_fit.py, or give --by-energy")

    def fitted(on: Sequence[Chromosome]) -> Weights:
        columns = (np.concatenate([getattr(c, name) for c in on]) for name in ("logits", "shown", "positive"))
        return fit_annotation(*columns, positive_weight=options.positive_weight)

    print("| set | ranked by | AP (95 %) | max F1 | recall at 1 5 20 100 / Mb |")
    print("|---|---|---|---|---|")
    ranked: dict[str, list[np.ndarray]] = {}
    for c in worm:
        others = [other for other in worm if other is not c]
        weights = fitted(others or worm)
        columns = {
            "score": c.logits,
            "homology": c.homology,
            "evidence": c.shown,
            "annotation" if others else "annotation (fitted here)": annotation(c.logits, c.shown, weights),
        }
        for by, values in columns.items():
            ranked.setdefault(by, []).append(values)
            print(row(c.name, by, evaluate_calls(c.calls, values, c.loci, c.megabases)), flush=True)
        overlapping = [
            (2 * (np.minimum(c.calls.end, end) - np.maximum(c.calls.start, start)) >= end - start)
            & (c.calls.minus == minus)
            for _, start, end, minus in zip(*c.loci, strict=True)
        ]
        related = sum(bool((c.homology[rows] >= RELATED * CHANCE).any()) for rows in overlapping)
        print(f"# {c.name}: {related} of {len(overlapping)} known hairpins have a relative; {weights}", flush=True)
    numbered = [np.full(len(c.logits), i) for i, c in enumerate(worm)]
    calls = Places(np.concatenate(numbered), *(np.concatenate([c.calls[k] for c in worm]) for k in (1, 2, 3)))
    loci = Places(
        np.repeat(np.arange(len(worm)), [len(c.loci.start) for c in worm]),
        *(np.concatenate([c.loci[k] for c in worm]) for k in (1, 2, 3)),
    )
    for by, values in ranked.items():
        figures = evaluate_calls(calls, np.concatenate(values), loci, sum(c.megabases for c in worm))
        print(row("worm", by, figures), flush=True)
    print(f"# fitted on all: {fitted(worm)}; claims from homology {CLAIM}")


if __name__ == "__main__":
    main()
