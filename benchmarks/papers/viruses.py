"""Every shipped model of precursors scans a virus: the published networks on a genome, beside those of mirscan.

    python benchmarks/papers/viruses.py ../shared/data [--models deepmirgene ...] [--genome ebv_NC_007605.1]

A known hairpin's score is the best of the windows of its strand that hold four fifths of it; its percentile is among
all windows of both strands. Average precision is of windows, those that hold four fifths of a known hairpin being
right, so it is low where a model finds the same hairpin in few of its windows.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from mirscan.checkpoints.weights import registry
from mirscan.evaluation.ranking import average_precision, percentile
from mirscan.known.precursors import read_loci
from mirscan.models import MODELS
from mirscan.scanning.options import Options
from mirscan.scanning.run import scan_genome
from mirscan.store import ScoreStore


def scanned(fasta: Path, model: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Starts of windows, their scores (windows, 2), and windows scored a second, both strands counted."""
    with tempfile.TemporaryDirectory() as folder:
        record = scan_genome(fasta, Options(output=Path(folder) / "x.bw", model=model))
        store = ScoreStore.open(str(Path(folder) / "x.bw.store"))
        scores = np.concatenate([part for _, part in store.iter_scores()])
        grid, (contig,) = store.plan.grid, store.plan.contigs
        return grid.starts(contig.length, 0, len(scores)), scores, record["windows_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    shipped = [name for name in registry() if MODELS[name].task == "precursor"]
    parser.add_argument("--models", nargs="*", default=shipped)
    parser.add_argument("--genome", default="ebv_NC_007605.1")
    options = parser.parse_args()
    genomes = options.data / "genomes"
    loci = read_loci(genomes / f"{options.genome}.gff3")
    print(f"{options.genome}, {len(loci)} known hairpins\n")
    print("| model | median percentile | above 90 | average precision of windows | windows/s |\n|---|---|---|---|---|")
    for model in options.models:
        starts, scores, speed = scanned(genomes / f"{options.genome}.fa.gz", model)
        right = np.zeros(scores.shape, dtype=bool)
        best = []
        for locus in loci:
            shared = np.minimum(starts + MODELS[model].window, locus.end) - np.maximum(starts, locus.start)
            holds, strand = shared >= 0.8 * (locus.end - locus.start), int(locus.strand == "-")
            right[holds, strand] = True
            best.append(scores[holds, strand].max())
        ranks = percentile(np.array(best), scores.reshape(-1))
        found = average_precision(right.reshape(-1), scores.reshape(-1))
        cells = [model, f"{np.median(ranks):.1f}", (ranks > 90).sum(), f"{found:.3f}", f"{speed:,.0f}"]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
