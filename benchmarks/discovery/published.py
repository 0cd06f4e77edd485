"""The published systems on the genomes that `duplex` is judged on, by the same evaluator, beside `duplex` unseen.

    python benchmarks/discovery/published.py ../shared/data --work FOLDER --name run [--models mire2e] [--pieces worm]

Each model scans as `mirscan genome --model NAME` does, in windows of its own length; all its windows are ranked. The
rows of `duplex` are those of `cross_fit.py`, whose scores are in the work folder: networks that did not see the
contig. The published models learned from molecules of many species, these hairpins among them. A scan that was
stopped resumes.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from corpus import Contig, read_corpus, unseen_scores
from cross_fit import log, places, rows_of

from mirscan.checkpoints.weights import registry
from mirscan.commands.evaluate import judge
from mirscan.evaluation.matching import Figures, evaluate_calls
from mirscan.models import MODELS
from mirscan.scanning.options import Options
from mirscan.scanning.run import scan_genome


@dataclass(frozen=True)
class Piece:
    """A stretch of a genome: file, contig, 0-based half-open bounds."""

    genome: str
    contig: str
    start: int
    end: int

    @property
    def region(self) -> str:
        """As the command line takes it, 1-based and closed."""
        return f"{self.contig}:{self.start + 1}-{self.end}"


PIECES = {
    "worm chrII:10-15 Mb": Piece("cel_ce10_chrI_II_III_M", "chrII", 10_000_000, 15_000_000),
    "human chr1:1-3.6 Mb": Piece("hsa_GRCh38_chr1_1-10Mb", "chr1", 0, 3_600_000),
    "human chr1:3.6-10 Mb": Piece("hsa_GRCh38_chr1_1-10Mb", "chr1", 3_600_000, 10_000_000),
    "human chr9:1-1 Mb": Piece("hsa_GRCh38_chr9_1-1Mb", "chr9", 0, 1_000_000),
}
"""A quarter of the worm's known hairpins; of the human ones all but two, most in the first stretch."""


def scanned(data: Path, work: Path, piece: Piece, model: str) -> Figures:
    """Figures of a published model: every window of the piece is ranked."""
    genomes = data / "genomes"
    output = work / f"{model}-{piece.genome}-{piece.start}.bw"
    store = Path(f"{output}.store")
    if not output.exists():
        log(f"{model} scans {piece.region} of {piece.genome}")
        scan_genome(genomes / f"{piece.genome}.fa.gz", Options(output, model=model, regions=(piece.region,), threads=1))
    return judge(str(store), genomes / f"{piece.genome}.gff3")["all"]


def cut(contig: Contig, piece: Piece, scores: np.ndarray) -> tuple[Contig, np.ndarray]:
    """The part of a contig's hairpins and loci that lies in the piece, and their scores."""
    found = contig.labelled.hairpins
    inside = (found.starts >= piece.start) & (found.ends <= piece.end)
    loci = [x for x in contig.loci if x.start >= piece.start and x.end <= piece.end]
    codes = contig.codes[piece.start : piece.end]
    return replace(contig, codes=codes, loci=loci, labelled=contig.labelled.take(inside)), scores[inside]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", default="run", help="of the cross-fit in the work folder")
    windowed = [name for name in registry() if MODELS[name].task == "precursor" and MODELS[name].unit == "window"]
    parser.add_argument("--models", nargs="*", default=windowed, choices=windowed)
    parser.add_argument("--pieces", nargs="*", default=[""], help="how their names begin; all by default")
    options = parser.parse_args()
    home = options.work / "published"
    home.mkdir(exist_ok=True)
    chosen = {name: piece for name, piece in PIECES.items() if name.startswith(tuple(options.pieces))}
    unseen = unseen_scores(options.work / options.name)
    contigs = {c.name: c for c in read_corpus(options.data, options.work).contigs}
    print("| set | ranked by | found by any call | AP (95 %) | max F1 | recall at 1 5 20 100 / Mb | antisense |")
    print("|---|---|---|---|---|---|---|")
    for name, piece in chosen.items():
        where = f"{piece.genome}:{piece.contig}"
        part, scores = cut(contigs[where], piece, unseen[where])
        calls, known, megabases = places([part])
        print(*rows_of("duplex, unseen", {name: evaluate_calls(calls, scores, known, megabases)}), flush=True)
        for model in options.models:
            print(*rows_of(model, {name: scanned(options.data, home, piece, model)}), flush=True)


if __name__ == "__main__":
    main()
