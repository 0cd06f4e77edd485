"""Fit the calibration of a hairpin model to the scores a cross-fit has left, and see whether it holds.

    python benchmarks/discovery/calibrate.py ../shared/data --work FOLDER --name run [--leave-out genome]
        [--weights checkpoints/duplex] [--plot reliability.png]

Each contig was scored by a model that has not seen it. For the reliability table the line is fitted on all contigs but
one, or on all genomes but one, and tells the precision of that one's calls, at the prevalence of its genome; the calls
of all of them are then sorted into bins. Beside it stands how likely the found hairpins are under the line, and under
a line with a square added, fitted alike: a bend has to earn its place. With `--weights` the line fitted on everything
goes into that folder as calibration.json.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from corpus import unique, unseen_scores

from mirscan.calls.precision import Sample, fit_calibration, fit_logistic, save_calibration
from mirscan.checkpoints import weights
from mirscan.evaluation.matching import BLOCK, Places, match, non_redundant
from mirscan.genome import open_genome
from mirscan.known.precursors import read_loci

BINS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Of estimated precision."""
RATES = (1, 5, 20, 100)
"""Best calls a megabase for which found and foretold hairpins are compared."""
NOTHING = Places(*(np.empty(0, dtype=kind) for kind in ("i8", "i8", "i8", "?")))


class Scored(NamedTuple):
    """Non-redundant hairpins of a contig that was held out, best first."""

    name: str
    logits: np.ndarray
    positive: np.ndarray
    blocks: np.ndarray
    known: int
    megabases: float

    @property
    def genome(self) -> str:
        """First word of its name: worm chromosomes are one genome, and so are the pieces of the human one."""
        return self.name.split("_")[0]


def read_scored(data: Path, work: Path, scores: dict[str, np.ndarray]) -> list[Scored]:
    """The held-out contigs, their hairpins matched to known ones."""
    found = []
    for stem in dict.fromkeys(name.split(":")[0] for name in scores):
        annotation = data / "genomes" / f"{stem}.gff3"
        loci = read_loci(annotation) if annotation.exists() else []
        with open_genome(data / "genomes" / f"{stem}.fa.gz", spool=work) as genome:
            contigs = [contig for contig in genome.contigs if f"{stem}:{contig.name}" in scores]
        for contig in contigs:
            name = f"{stem}:{contig.name}"
            folder = work / name.replace("|", "_")[:60]
            starts, ends, minus = (np.load(folder / f"{column}.npy") for column in ("starts", "ends", "minus"))
            calls = Places(np.zeros(len(starts), dtype=np.int64), starts, ends, minus)
            here = unique([locus for locus in loci if locus.contig == contig.name])
            places = [(0, locus.start, locus.end, locus.strand == "-") for locus in here]
            known = Places(*(np.array(column) for column in zip(*places, strict=True))) if here else NOTHING
            rows = non_redundant(calls, scores[name])
            positive = match(calls.take(rows), known).known >= 0
            blocks = (starts + ends)[rows] // 2 // BLOCK
            megabases = (contig.length - contig.ambiguous) / 1e6
            found.append(Scored(name, scores[name][rows], positive, blocks, len(here), megabases))
    return found


def by_genome(contigs: list[Scored], prevalences: dict[str, float]) -> list[Sample]:
    """One sample a genome that has known hairpins; blocks of different contigs are different."""
    samples = []
    for genome in dict.fromkeys(contig.genome for contig in contigs):
        mine = [contig for contig in contigs if contig.genome == genome]
        if prevalences[genome]:
            samples.append(
                Sample(
                    logits=np.concatenate([contig.logits for contig in mine]),
                    positive=np.concatenate([contig.positive for contig in mine]),
                    blocks=np.concatenate([10_000 * number + contig.blocks for number, contig in enumerate(mine)]),
                    megabases=sum(contig.megabases for contig in mine),
                    prevalence=prevalences[genome],
                )
            )
    return samples


def likelihoods(training: list[Sample], test: list[Sample]) -> tuple[float, float]:
    """Log-likelihood of the best calls left out, under a line and under a line with a square."""
    training, test = [sample.best() for sample in training], [sample.best() for sample in test]

    def columns(samples: list[Sample], degree: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scaled = np.concatenate([sample.logits for sample in samples]) / 4
        offset = np.concatenate([np.full(len(sample.logits), np.log(sample.prevalence)) for sample in samples])
        powers = np.stack([scaled**power for power in range(degree + 1)], axis=1)
        return powers, np.concatenate([sample.positive for sample in samples]).astype(float), offset

    found = []
    for degree in (1, 2):
        powers, positive, offset = columns(training, degree)
        line = fit_logistic(powers, positive, offset, np.ones(len(offset)))
        powers, positive, offset = columns(test, degree)
        odds = powers @ line + offset
        found.append(float(positive @ odds - np.logaddexp(0, odds).sum()))
    return found[0], found[1]


def wilson(hits: int, calls: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z = 1.96
    middle, spread = hits + z * z / 2, z * np.sqrt(hits * (calls - hits) / calls + z * z / 4)
    return float((middle - spread) / (calls + z * z)), float((middle + spread) / (calls + z * z))


def plot(path: Path, rows: list[tuple[float, ...]]) -> bool:
    """Draw the reliability of the bins; False without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    estimate, low, high, share, least, most = np.array(rows).T[:6]
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([1e-5, 1], [1e-5, 1], color="grey", linewidth=0.8)
    spread = [np.maximum(estimate - low, 0), np.maximum(high - estimate, 0)], [share - least, most - share]
    axes.errorbar(estimate, share, xerr=spread[0], yerr=spread[1], fmt="o", markersize=4, linewidth=1)
    axes.set(xscale="log", yscale="log", xlim=(1e-5, 1), ylim=(1e-5, 1))
    axes.set(xlabel="estimated precision", ylabel="share that are known hairpins")
    figure.savefig(path, dpi=150)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder of the cross-fit")
    parser.add_argument("--name", default="run")
    parser.add_argument("--leave-out", choices=("contig", "genome"), default="contig")
    parser.add_argument("--weights", type=Path, help="folder of the weights that get the calibration")
    parser.add_argument("--note", default="", help="what a reader of calibration.json should know")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    scores = unseen_scores(options.work / options.name)
    contigs = read_scored(options.data, options.work, scores)
    prevalences = {
        genome: sum(c.known for c in contigs if c.genome == genome)
        / sum(c.megabases for c in contigs if c.genome == genome)
        for genome in dict.fromkeys(contig.genome for contig in contigs)
    }

    # ------------------------------------------------------------------ does it hold on what is left out?
    estimated: list[np.ndarray] = []
    positive: list[np.ndarray] = []
    print("| left out | known | " + " | ".join(f"best {rate} / Mb: foretold, found" for rate in RATES) + " | bend |")
    print("|---|---|" + "---|" * (len(RATES) + 1))
    for left in dict.fromkeys(getattr(c, "name" if options.leave_out == "contig" else "genome") for c in contigs):
        out = [c for c in contigs if left in (c.name, c.genome)]
        others = by_genome([c for c in contigs if c not in out], prevalences)
        if not prevalences[out[0].genome] or not any(sample.positive.any() for sample in others):
            continue
        calibration = fit_calibration(others)
        (test,) = by_genome(out, prevalences)
        columns = np.array(calibration.precision(1 / (1 + np.exp(-test.logits.astype(float))), test.prevalence))
        estimated.append(columns)
        positive.append(test.positive)
        order = np.argsort(-test.logits, kind="stable")
        cells = []
        for rate in RATES:
            best = order[: int(rate * test.megabases)]
            low, high = columns[1:, best].sum(axis=1)
            cells.append(f"{columns[0, best].sum():.1f} ({low:.1f}-{high:.1f}), {test.positive[best].sum()}")
        line, square = likelihoods(others, [test])
        print(f"| {left} | {sum(c.known for c in out)} | " + " | ".join(cells) + f" | {square - line:+.1f} |")
    print("\nbend: gain of log-likelihood by a square term, on what is left out\n")
    print("| estimated precision | calls | mean estimate (interval) | known | share (95 %) |")
    print("|---|---|---|---|---|")
    table = []
    (estimate, low, high), hit = np.concatenate(estimated, axis=1), np.concatenate(positive)
    for least, most in itertools.pairwise(BINS):
        rows = (estimate >= least) & (estimate < most)
        if rows.any():
            share = hit[rows].mean(), *wilson(int(hit[rows].sum()), int(rows.sum()))
            means = estimate[rows].mean(), low[rows].mean(), high[rows].mean()
            table.append((*means, *share))
            print(
                f"| {least:g} to {most:g} | {rows.sum()} | {means[0]:.2g} ({means[1]:.2g}-{means[2]:.2g}) |"
                f" {hit[rows].sum()} | {share[0]:.2g} ({share[1]:.2g}-{share[2]:.2g}) |"
            )
    if options.plot and not plot(options.plot, table):
        print("no plot: matplotlib is not installed (extra `plots`)")

    # ------------------------------------------------------------------ the line for the weights
    calibration = fit_calibration(by_genome(contigs, prevalences))
    ends = np.percentile(calibration.draws, [2.5, 97.5], axis=0)
    for word, value, (least, most) in zip(("intercept", "slope"), calibration.line, ends.T, strict=True):
        print(f"\n{word} {value:.2f} ({least:.2f} to {most:.2f})", end="")
    print(f", highest logit {calibration.highest:.2f}")
    if options.weights:
        about: dict[str, Any] = {
            "contigs": [contig.name for contig in contigs],
            "known": sum(contig.known for contig in contigs),
            "megabases": round(sum(contig.megabases for contig in contigs), 1),
            "scores": "each contig by networks that have not seen it",
            "note": options.note,
            "date": time.strftime("%Y-%m-%d"),
        }
        calibration = replace(calibration, weights=weights.digest(options.weights), about=about)
        save_calibration(options.weights / weights.CALIBRATION, calibration)


if __name__ == "__main__":
    main()
