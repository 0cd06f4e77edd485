"""Held-out figures of the shipped miRe2e weights, as its model card states them.

    python benchmarks/discovery/mire2e.py ../shared/data --output benchmarks/results/mire2e

Held out are whole miRNA families, chromosome III of the worm, a human and a fly contig, and every virus. All figures
are of the shipped bytes. Random weights stand beside them where a ranking is judged.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from mirscan.devices import Scorer, backend, best_precision, compiled_rows, configure
from mirscan.evaluation.ranking import average_precision, max_f1, percentile
from mirscan.genome import open_genome
from mirscan.kernels.bases import decode
from mirscan.kernels.windows import cut
from mirscan.known.precursors import read_loci
from mirscan.models import MODELS, load_model
from mirscan.structure.folders import ViennaFolder
from mirscan.training.loop import runner
from mirscan.training.mire2e import structure_figures, structures
from mirscan.training.mire2e_windows import Corpus, Sources, read_corpus
from mirscan.types import Grid

SPEC = MODELS["mire2e"]
GENOMES = (
    "cel_ce10_chrI_II_III_M",
    "hsa_GRCh38_chr1_1-10Mb",
    "hsa_GRCh38_chr2_1-2.3Mb",
    "hsa_GRCh38_chr9_1-1Mb",
    "hsa_hg16_ENCODE_ENm002",
    "mmu_mm6_ENCODE_ENm001",
    "mmu_mm6_ENCODE_ENm002",
    "dme_dm3_chr4",
    "dme_r6_1pct",
)
HELD_OUT = (
    ("cel*:chrIII", "test"),
    ("hsa_GRCh38_chr9*:*", "test"),
    ("dme_dm3*:*", "validation"),
    ("hsa_GRCh38_chr2*:*", "validation"),
)


def sources(data: Path) -> Sources:
    """The sources of the training command in the model card."""
    pairs = [(data / "genomes" / f"{name}.fa.gz", data / "genomes" / f"{name}.gff3") for name in GENOMES]
    return Sources(
        precursors=data / "mirbase" / "v22_hairpin.fa.gz",
        genomes=tuple((fasta, gff3 if gff3.is_file() else None) for fasta, gff3 in pairs),
        held_out=HELD_OUT,
        pseudo=data / "negatives" / "hsa_cds_pseudo_hairpins.fa.gz",
    )


def scorer(weights: Path | None, *, random: bool = False, precision: str | None = None) -> Scorer:
    """Scores by the shipped weights, by those of a folder, or by random ones, in the precision of a scan."""
    precision = precision or best_precision(SPEC)
    if random:
        model = SPEC.build(rngs=nnx.Rngs(0), precision=precision)  # as a training would start it
        model.eval()
        nnx.pop(model, nnx.RngState)
        graph, state = nnx.split(model)
    else:
        graph, state = load_model(SPEC.name, weights, precision=precision)
    return Scorer(SPEC, graph, state, rows=compiled_rows(SPEC, backend()))


def structure_and_energy(weights: Path | None, corpus: Corpus, count: int) -> dict[str, Any]:
    """Stages one and two against RNAfold, on windows around precursors of held-out families and on background."""
    generator = np.random.default_rng(11)
    held = np.flatnonzero(corpus.part == 2)
    precursors = np.stack([corpus.windows(generator, n, 100) for n in generator.choice(held, count)])
    background = corpus.backgrounds["test"].draw(generator, count, 100)
    graph, state = load_model(SPEC.name, weights, precision=best_precision(SPEC))
    model = nnx.merge(graph, state)
    figures = {}
    with ViennaFolder(1) as folder:
        for name, codes in (("precursors", precursors), ("background", background)):
            truth, energy = structures(folder.fold([decode(row).decode() for row in codes]))
            predicted = runner(model.structure)({"codes": codes})
            found = runner(model.energy)({"codes": codes, "structure": predicted})
            figures[name] = structure_figures(predicted, truth) | {
                "energy_r": float(np.corrcoef(found, energy)[0, 1]),
                "energy_mean_absolute_error": float(np.abs(found - energy).mean()),
                "windows": len(codes),
            }
    return figures


def classification(scorers: dict[str, Scorer], corpus: Corpus, positives: int, ratio: int) -> dict[str, Any]:
    """Stepwise average precision and maximal F1 on held-out families among held-out background, one to ``ratio``."""
    generator = np.random.default_rng(12)
    held = np.flatnonzero(corpus.part == 2)
    chosen = generator.choice(held, min(positives, len(held)), replace=False)
    codes = np.concatenate(
        [
            np.stack([corpus.windows(generator, n, 100) for n in chosen]),
            corpus.backgrounds["test"].draw(generator, len(chosen) * ratio, 100),
        ]
    )
    truth = np.arange(len(codes)) < len(chosen)
    figures: dict[str, Any] = {"positives": len(chosen), "background": len(chosen) * ratio}
    for name, score in scorers.items():
        few = slice(None) if name == "trained" else slice(0, 11 * len(chosen))  # random weights need no 1:1000
        scores = score.score(codes[few])
        figures[name] = {
            "average_precision": average_precision(truth[few], scores),
            "max_f1": max_f1(truth[few], scores)[0],
            "median_percentile": float(np.median(percentile(scores[truth[few]], scores[~truth[few]]))),
        }
    return figures


def offsets(score: Scorer, corpus: Corpus, count: int = 150) -> list[dict[str, float]]:
    """How the score falls as a window slides off a held-out precursor: median and quartiles by the bases it misses."""
    generator = np.random.default_rng(13)
    short = [n for n in np.flatnonzero(corpus.part == 2) if 60 <= len(corpus.precursors[n].codes) <= 90]
    rows: dict[int, list[np.ndarray]] = {}
    for n in generator.choice(short, min(count, len(short)), replace=False):
        codes = corpus.precursors[n].codes
        stretch = corpus.backgrounds["test"].flanks(generator, codes).copy()
        stretch[100 : 100 + len(codes)] = codes
        centred = 100 + len(codes) // 2 - 50
        for shift in range(-80, 81, 10):
            rows.setdefault(shift, []).append(stretch[centred + shift : centred + shift + 100])
    curve = []
    for shift, windows in sorted(rows.items()):
        low, median, high = np.percentile(score.score(np.stack(windows)), (25, 50, 75))
        curve.append({"shift": shift, "quartile_1": float(low), "median": float(median), "quartile_3": float(high)})
    return curve


def precisions(weights: Path | None, corpus: Corpus, count: int = 1000) -> dict[str, float]:
    """Scores in bfloat16 products against float32, on precursors of held-out families and background."""
    generator = np.random.default_rng(14)
    held = np.flatnonzero(corpus.part == 2)
    positives = np.stack([corpus.windows(generator, n, 100) for n in generator.choice(held, count // 2)])
    codes = np.concatenate([positives, corpus.backgrounds["test"].draw(generator, count // 2, 100)])
    one, other = (scorer(weights, precision=name).score(codes) for name in ("float32", "bfloat16"))
    ranks = [np.argsort(np.argsort(scores)) for scores in (one, other)]
    return {
        "windows": count,
        "largest_difference": float(np.abs(one - other).max()),
        "median_difference": float(np.median(np.abs(one - other))),
        "rank_correlation": float(np.corrcoef(*ranks)[0, 1]),
        "average_precision_float32": average_precision(np.arange(count) < count // 2, one),
        "average_precision_bfloat16": average_precision(np.arange(count) < count // 2, other),
    }


def genome(scorers: dict[str, Scorer], fasta: Path, gff3: Path) -> dict[str, Any]:
    """Every window of a genome: percentile of the best window over each known hairpin, average precision of windows."""
    with tempfile.TemporaryDirectory() as spool, open_genome(fasta, spool=Path(spool)) as opened:
        (contig,) = opened.contigs
        bases = opened.codes(0, 0, contig.length)
    grid = Grid()
    starts = np.repeat(grid.starts(contig.length, 0, grid.count(contig.length)), 2)
    minus = np.arange(len(starts)) % 2 == 1
    codes = cut(bases, starts, minus, grid.window)
    loci = read_loci(gff3)
    truth = np.zeros(len(starts), dtype=bool)
    over = []
    for locus in loci:
        shared = np.minimum(starts + 100, locus.end) - np.maximum(starts, locus.start)
        here = (minus == (locus.strand == "-")) & (shared >= 0.8 * min(100, locus.end - locus.start))
        truth |= here
        over.append(here)
    figures: dict[str, Any] = {"windows": len(starts), "hairpins": len(loci), "positive_windows": int(truth.sum())}
    for name, score in scorers.items():
        scores = score.score(codes)
        best = np.array([scores[here].max() for here in over if here.any()])
        figures[name] = {
            "median_percentile_of_best_window": float(np.median(percentile(best, scores))),
            "hairpins_above_percentile_90": int((percentile(best, scores) >= 90).sum()),
            "window_average_precision": average_precision(truth, scores),
            "window_share_positive": float(truth.mean()),
        }
    return figures


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path, help="instead of the shipped ones")
    parser.add_argument("--output", type=Path, help="results are written to OUTPUT.json")
    parser.add_argument("--positives", type=int, default=60)
    parser.add_argument("--ratio", type=int, default=1000)
    options = parser.parse_args()
    configure()
    began = time.time()
    both = {"trained": scorer(options.weights), "random": scorer(None, random=True)}
    data = options.data
    result: dict[str, Any] = {
        "command": "python benchmarks/discovery/mire2e.py ../shared/data",
        "date": time.strftime("%Y-%m-%d"),
    }
    viruses = (("ebv", "ebv_NC_007605.1"), ("hcmv", "hcmv_NC_006273.2"))

    def note(name: str, figures: Any) -> None:
        result[name] = figures
        print(json.dumps({name: figures}), flush=True)
        if options.output:
            options.output.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")

    for name, stem in viruses:
        note(name, genome(both, data / "genomes" / f"{stem}.fa.gz", data / "genomes" / f"{stem}.gff3"))
    with tempfile.TemporaryDirectory() as spool:
        corpus = read_corpus(sources(data), Path(spool))
    note("stages", structure_and_energy(options.weights, corpus, 1000))
    note("precision", precisions(options.weights, corpus))
    note("offset_curve", offsets(both["trained"], corpus))
    note("classifier", classification(both, corpus, options.positives, options.ratio))
    note("seconds", round(time.time() - began))


if __name__ == "__main__":
    main()
