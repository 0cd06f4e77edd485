"""Our own model on the shared genomes, each contig scored by a model that has not seen it.

    python benchmarks/discovery/cross_fit.py ../shared/data --work FOLDER [--seeds 0 1] [--folds 0 1 2]

Contigs are held out in three folds; a worm chromosome is in each. Of a held-out contig the loci leave the positives by
name and by a shared word of thirty bases within the species, and its sequence lends no context to a precursor. The
fold that holds out the viruses trains without any virus (a new clade). A network is trained for each seed; their mean
logit is judged, as the shipped model takes it. `--production` trains on everything and joins the networks.
Tables, embedded precursors and trained weights are kept in the work folder.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from mirscan.checkpoints import weights as checkpoints
from mirscan.copies import Copies, count_copies
from mirscan.curate import (
    ANTISENSE,
    BACKGROUND,
    PRECURSOR,
    Curated,
    embed_precursors,
    held_out,
    label_hairpins,
    precursor_weights,
)
from mirscan.evaluate import Figures, Places, evaluate_calls
from mirscan.examples import Background, Locus, Precursor, known_kmers, read_loci, read_precursors
from mirscan.flanks import cuts, read_arms, with_lower_stems
from mirscan.genome import open_genome
from mirscan.hairpins import SCALARS, Hairpins, contig_hairpins
from mirscan.kernels.clusters import best_neighbours, lift
from mirscan.mine import Rounds, mine, score_hairpins
from mirscan.models import MODELS, set_weights
from mirscan.work import REACH

FOLDS = 3
ALWAYS = FOLDS
"""Fold of contigs that are always trained on."""
GENOMES: dict[str, int | dict[str, int]] = {  # genome: fold of its contigs, or of each of them
    "cel_ce10_chrI_II_III_M": {"chrI": 0, "chrII": 1, "chrIII": 2, "chrM": 2},
    "hsa_GRCh38_chr1_1-10Mb": 1,
    "hsa_GRCh38_chr9_1-1Mb": 2,
    "hsa_hg16_ENCODE_ENm002": 0,
    "ebv_NC_007605.1": 0,
    "hcmv_NC_006273.2": 0,
    "kshv_137969bp": 0,
    "hsa_GRCh38_chr2_1-2.3Mb": ALWAYS,
    "hsa_hg16_ENCODE_ENm001": ALWAYS,
    "mmu_mm6_ENCODE_ENm001": ALWAYS,
    "mmu_mm6_ENCODE_ENm002": ALWAYS,
    "dme_dm3_chr4": ALWAYS,
    "dme_r6_1pct": ALWAYS,
}
WITHOUT_VIRUSES = 0
"""The fold that holds out the viral genomes learns from no virus at all."""
SETS = {
    "worm": "cel_ce10",
    "worm chrI": "cel_ce10_chrI_II_III_M:chrI",
    "worm chrII": "cel_ce10_chrI_II_III_M:chrII",
    "worm chrIII": "cel_ce10_chrI_II_III_M:chrIII",
    "human": "hsa_",
    "EBV": "ebv_",
    "HCMV": "hcmv_",
    "KSHV": "kshv_",
}
DOUBTFUL = 0.1
"""Weight of miRBase entries without support by MirGeneDB."""


@dataclass
class Contig:
    """A contig of a genome with its hairpins, labelled."""

    name: str
    fold: int
    codes: np.ndarray
    loci: list[Locus]
    labelled: Curated


@dataclass
class Corpus:
    """Everything there is to learn from."""

    precursors: list[Precursor]
    weights: np.ndarray
    contigs: list[Contig]
    embedded: list[Curated]
    """By the fold whose contigs lent the context."""


def read_corpus(data: Path, work: Path) -> Corpus:
    """Read, fold and label everything, or take it from the work folder."""
    mirbase = read_precursors(data / "mirbase" / "v22_hairpin.fa.gz")
    curated = read_precursors(data / "mirgenedb" / "precursors.fa.gz")
    known = known_kmers(mirbase + curated)
    precursors = [
        p for p in mirbase + curated
        if p.clade != "plant" and (p.codes < 4).all() and 40 <= len(p.codes) <= Background.LONGEST
    ]  # fmt: skip
    number = {p.name: i for i, p in reversed(list(enumerate(precursors)))}
    contigs = []
    for stem, folds in GENOMES.items():
        genome = open_genome(data / "genomes" / f"{stem}.fa.gz", spool=work)
        annotation = data / "genomes" / f"{stem}.gff3"
        loci = read_loci(annotation) if annotation.exists() else []
        copies = count_copies(genome.codes, [contig.length for contig in genome.contigs])
        for index, contig in enumerate(genome.contigs):
            codes = np.array(genome.codes(index, 0, contig.length))
            found = table(work / f"{stem}:{contig.name}".replace("|", "_")[:60], codes, copies)
            here = unique([locus for locus in loci if locus.contig == contig.name])
            labelled = label_hairpins(codes, found, here, known)
            numbers = np.array([number.get(locus.name, -1) for locus in here] or [-1], dtype=np.int32)
            source = np.where(labelled.source >= 0, numbers[labelled.source], -1).astype(np.int32)
            fold = folds if isinstance(folds, int) else folds[contig.name]
            contigs.append(Contig(f"{stem}:{contig.name}", fold, codes, here, replace(labelled, source=source)))
        genome.close()
    corpus = Corpus(precursors, precursor_weights(precursors, curated, DOUBTFUL), contigs, [])
    judged = np.any([left_out(corpus, fold) for fold in range(FOLDS)], axis=0)
    places = cuts(precursors, read_arms(data / "mirbase" / "v22_mature_placements.tsv.gz"))
    for fold in range(FOLDS):
        path = work / f"embedded{fold}.npz"
        if not path.exists():
            hosts = [c for c in contigs if c.fold in (fold, ALWAYS)]
            loci = [Locus(c.name, x.start, x.end, x.strand, x.name) for c in hosts for x in c.loci]
            background = Background([(c.name, c.codes) for c in hosts], loci, known, 100)
            generator = np.random.default_rng(fold)
            whole = with_lower_stems(precursors, places, ~judged, generator)
            found = embed_precursors(whole, background, generator)
            np.savez(path, label=found.label, source=found.source, **found.hairpins._asdict())
        with np.load(path) as saved:
            hairpins = Hairpins(*(saved[name] for name in Hairpins._fields))
            corpus.embedded.append(Curated(hairpins, saved["label"], saved["source"]))
    return corpus


def table(path: Path, codes: np.ndarray, copies: Copies) -> Hairpins:
    """The hairpins of a contig, kept in a folder."""
    if not path.exists():
        found = contig_hairpins(codes, copies=copies)
        path.mkdir(parents=True)
        for name, column in found._asdict().items():
            np.save(path / f"{name}.npy", column)
    return Hairpins(*(np.load(path / f"{name}.npy") for name in Hairpins._fields))


def unique(loci: list[Locus]) -> list[Locus]:
    """One of every set of loci at the very same place: near-identical hairpins placed by mismatches."""
    return list({(locus.start, locus.end, locus.strand): locus for locus in reversed(loci)}.values())[::-1]


def left_out(corpus: Corpus, fold: int) -> np.ndarray:
    """Precursors (bool) that a fold may not learn from."""
    held = np.zeros(len(corpus.precursors), dtype=bool)
    for species in ("cel", "hsa", "ebv", "hcmv", "kshv"):
        loci = [x for c in corpus.contigs if c.fold == fold for x in c.loci if x.name.startswith(f"{species}-")]
        held |= held_out(corpus.precursors, loci, species)
    if fold == WITHOUT_VIRUSES:
        held |= np.array([p.clade == "virus" for p in corpus.precursors])
    return held


def joined(parts: list[Hairpins]) -> Hairpins:
    """Hairpins of many contigs in one table."""
    return Hairpins(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def training_set(corpus: Corpus, fold: int) -> tuple[Hairpins, np.ndarray, Hairpins, Hairpins]:
    """Positives, their weights, background and antisense of a fold; of all of them for fold -1."""
    held = left_out(corpus, fold) if fold >= 0 else np.zeros(len(corpus.precursors), dtype=bool)
    genomic = [c.labelled for c in corpus.contigs if c.fold != fold]
    examples = [with_copies(e, genomic, number) for number, e in enumerate(corpus.embedded) if number != fold]
    positives, weights, antisense = [], [], []
    for labelled in (*examples, *genomic):
        usable = (labelled.source >= 0) & ~held[labelled.source]
        rows = np.flatnonzero((labelled.label == PRECURSOR) & usable)
        positives.append(labelled.hairpins.take(rows))
        weights.append(corpus.weights[labelled.source[rows]])
        antisense.append(labelled.hairpins.take((labelled.label == ANTISENSE) & usable))
    background = [labelled.hairpins.take(labelled.label == BACKGROUND) for labelled in genomic]
    return joined(positives), np.concatenate(weights), joined(background), joined(antisense)


def with_copies(embedded: Curated, genomic: list[Curated], seed: int) -> Curated:
    """Embedded precursors with copies as known hairpins have them in their genomes: their own genomes are not here."""
    column = SCALARS.index("copies")
    seen = np.concatenate([g.hairpins.scalars[g.label == PRECURSOR, column] for g in genomic])
    scalars = embedded.hairpins.scalars.copy()
    scalars[:, column] = np.random.default_rng(seed).choice(seen, len(scalars))
    return replace(embedded, hairpins=embedded.hairpins._replace(scalars=scalars))


def scored(found: Hairpins, logits: list[np.ndarray], neighbour: float) -> np.ndarray:
    """Logits of the hairpins of a contig as a scan ranks them: the mean of the networks, neighbours counted in."""
    mean = np.mean(logits, axis=0, dtype=np.float32)
    return lift(mean, best_neighbours(found.starts, found.ends, found.minus, mean, REACH), neighbour)


def places(contigs: list[Contig]) -> tuple[Places, Places, float]:
    """All hairpins and the known ones of some contigs, and their megabases."""
    sizes = [c.labelled.hairpins.size for c in contigs]
    found = joined([c.labelled.hairpins for c in contigs])
    loci = [(i, x.start, x.end, x.strand == "-") for i, c in enumerate(contigs) for x in c.loci]
    truth = Places(*(np.array(column) for column in zip(*loci, strict=True)))
    calls = Places(np.repeat(np.arange(len(contigs)), sizes), found.starts, found.ends, found.minus)
    return calls, truth, sum(float((c.codes < 4).sum()) for c in contigs) / 1e6


def judge(corpus: Corpus, scores: dict[str, np.ndarray]) -> dict[str, Figures]:
    """Figures of every set whose contigs all have scores."""
    figures = {}
    for name, prefix in SETS.items():
        whole = prefix.count(":")
        contigs = [
            c for c in corpus.contigs
            if (c.name == prefix if whole else c.name.startswith(prefix)) and c.fold != ALWAYS
        ]  # fmt: skip
        if all(c.name in scores for c in contigs):
            calls, truth, megabases = places(contigs)
            figures[name] = evaluate_calls(calls, np.concatenate([scores[c.name] for c in contigs]), truth, megabases)
    return figures


def boosting(training: tuple[Hairpins, np.ndarray, Hairpins, Hairpins], held: list[Contig]) -> dict[str, np.ndarray]:
    """Scores by gradient boosting on the scalars alone."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    positives, weights, background, antisense = training
    rows = np.random.default_rng(0).choice(background.size, min(300_000, background.size), replace=False)
    inputs = np.concatenate([positives.scalars, background.scalars[rows], antisense.scalars])
    labels = np.arange(len(inputs)) < positives.size
    weight = np.concatenate([weights, np.ones(len(inputs) - len(weights))])
    model = HistGradientBoostingClassifier(max_iter=300, learning_rate=0.08, l2_regularization=1.0, random_state=0)
    model.fit(inputs, labels, sample_weight=weight)
    return {c.name: model.decision_function(c.labelled.hairpins.scalars) for c in held}


def log(line: str) -> None:
    """One line, at once."""
    print(f"# {time.strftime('%H:%M:%S')} {line}", flush=True)


def rows_of(label: str, figures: dict[str, Figures]) -> list[str]:
    """Markdown rows."""
    return [
        f"| {name} | {label} | {f.found}/{f.known} |"
        f" {f.average_precision:.3f} ({f.interval[0]:.2f}-{f.interval[1]:.2f}) |"
        f" {f.max_f1:.3f} | " + " ".join(f"{f.recall[r]:.2f}" for r in (1, 5, 20, 100)) + f" | {f.antisense} |"
        for name, f in figures.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", default="duplex-single")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--folds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--rounds", type=json.loads, default={}, help="fields of Rounds, as JSON")
    parser.add_argument("--name", default="run", help="of the trained weights in the work folder")
    parser.add_argument("--yardsticks", action="store_true")
    parser.add_argument("--production", type=Path, help="train on everything and save the weights here")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    corpus = read_corpus(options.data, options.work)
    log(f"{sum(c.labelled.hairpins.size for c in corpus.contigs)} hairpins, {len(corpus.precursors)} precursors")
    wanted = {k: tuple(v) if isinstance(v, list) else v for k, v in options.rounds.items()}
    rounds = {seed: Rounds(seed=seed, **wanted) for seed in options.seeds}
    spec = MODELS[options.model]
    home = options.work / options.name
    if options.production:
        training = training_set(corpus, -1)
        trees = [mine(spec, *training, each, home / f"production{seed}", log) for seed, each in rounds.items()]
        members = {"members": {str(number): tree for number, tree in enumerate(trees)}}
        about = {"model": "duplex", "rounds": [asdict(each) for each in rounds.values()]}
        checkpoints.save(options.production, members, about, half=True)
        return
    scores: dict[str, np.ndarray] = {}
    boosted: dict[str, np.ndarray] = {}
    for fold in options.folds:
        held = [c for c in corpus.contigs if c.fold == fold]
        training = training_set(corpus, fold)
        found: dict[str, list[np.ndarray]] = {c.name: [] for c in held}
        for seed, each in rounds.items():
            kept = home / f"seed{seed}-fold{fold}" / "scores.npz"
            if not kept.exists():
                module = spec.build(rngs=nnx.Rngs(0))
                set_weights(module, mine(spec, *training, each, kept.parent, log))
                arrays: dict[str, Any] = {c.name: score_hairpins(module, c.labelled.hairpins) for c in held}
                np.savez(kept, **arrays)
            with np.load(kept) as saved:
                for c in held:
                    found[c.name].append(saved[c.name])
        scores |= {c.name: scored(c.labelled.hairpins, found[c.name], spec.neighbour) for c in held}
        (home / f"fold{fold}").mkdir(parents=True, exist_ok=True)
        np.savez(home / f"fold{fold}" / "scores.npz", **{c.name: scores[c.name] for c in held})  # type: ignore[arg-type]
        for line in rows_of(options.model, judge(corpus, {c.name: scores[c.name] for c in held})):
            log(line)
        if options.yardsticks:
            boosted |= boosting(training, held)
    print("| set | ranked by | found by any call | AP (95 %) | max F1 | recall at 1 5 20 100 / Mb | antisense |")
    print("|---|---|---|---|---|---|---|")
    tables = {options.model: scores}
    if options.yardsticks:
        hairpins = {c.name: c.labelled.hairpins for c in corpus.contigs if c.name in scores}
        tables["energy"] = {name: -found.energies for name, found in hairpins.items()}
        residual = SCALARS.index("energy_residual")
        tables["energy residual"] = {name: -found.scalars[:, residual] for name, found in hairpins.items()}
        tables["gradient boosting"] = boosted
    for label, table_of in tables.items():
        print("\n".join(rows_of(label, judge(corpus, table_of))), flush=True)


if __name__ == "__main__":
    main()
