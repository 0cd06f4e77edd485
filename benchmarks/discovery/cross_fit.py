"""Our own model on the shared genomes, each contig scored by a model that has not seen it.

    python benchmarks/discovery/cross_fit.py ../shared/data --work FOLDER [--protocol all|clade|family] [--seeds 0 1]

Protocols are in corpus.py: (a) ``all``, (b) ``clade`` (and the viruses of (a), which learns from no virus when it
holds them out), (c) ``family``. A network is trained for each seed; their mean logit is judged, as the shipped model
takes it, and each network alone. `--production` trains on everything and joins the networks. Tables, embedded
precursors and trained weights are kept in the work folder.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from corpus import ALWAYS, Contig, Corpus, describe_loci, joined, protocols, read_corpus, training_set
from flax import nnx

from mirscan.checkpoints import weights as checkpoints
from mirscan.evaluation.matching import Figures, Places, evaluate_calls
from mirscan.models import MODELS, set_weights
from mirscan.scanning.jobs import in_place
from mirscan.structure.hairpins import SCALARS, Hairpins
from mirscan.training.adapt import PRECURSORS, remember
from mirscan.training.duplex_rounds import Rounds, mine, score_hairpins
from mirscan.types import ModelSpec

SETS = {
    "worm": ("cel_",),
    "worm chrI": ("cel_ce10_chrI_II_III_M:chrI",),
    "worm chrII": ("cel_ce10_chrI_II_III_M:chrII",),
    "worm chrIII": ("cel_ce10_chrI_II_III_M:chrIII",),
    "human": ("hsa_",),
    "human chr1:1-10,000,000": ("hsa_GRCh38_chr1_1-10Mb:chr1",),
    "herpesviruses": ("ebv_", "hcmv_", "kshv_"),
}
"""What is judged together: contigs, or all contigs of genomes."""


def scored(contig: Contig, logits: list[np.ndarray], spec: ModelSpec) -> np.ndarray:
    """Logits of the hairpins of a contig as a scan ranks them: the mean of the networks, what is near counted in."""
    found, mean = contig.labelled.hairpins, np.mean(logits, axis=0, dtype=np.float32)
    return in_place(mean, found.starts, found.ends, found.minus, contig.codes, spec)


def places(contigs: list[Contig]) -> tuple[Places, Places, float]:
    """All hairpins and the known ones of some contigs, and their megabases; the known ones contig by contig."""
    sizes = [c.labelled.hairpins.size for c in contigs]
    found = joined([c.labelled.hairpins for c in contigs])
    loci = [(i, x.start, x.end, x.strand == "-") for i, c in enumerate(contigs) for x in c.loci]
    truth = Places(*(np.array(column) for column in zip(*loci, strict=True)))
    calls = Places(np.repeat(np.arange(len(contigs)), sizes), found.starts, found.ends, found.minus)
    return calls, truth, sum(float((c.codes < 4).sum()) for c in contigs) / 1e6


def judge(corpus: Corpus, scores: dict[str, np.ndarray], split: str | None = None) -> dict[str, Figures]:
    """Figures of every set whose contigs all have scores; apart for each kind of known hairpin where one is given."""
    figures = {}
    for name, members in SETS.items():
        contigs = [
            c for c in corpus.contigs
            if c.fold != ALWAYS and any(c.name == m if ":" in m else c.name.startswith(m) for m in members)
        ]  # fmt: skip
        if all(c.name in scores for c in contigs):
            calls, truth, megabases = places(contigs)
            ranked = np.concatenate([scores[c.name] for c in contigs])
            if split is None:
                figures[name] = evaluate_calls(calls, ranked, truth, megabases)
                continue
            kinds = np.array([locus.attributes[split] for c in contigs for locus in c.loci])
            for kind in np.unique(kinds):
                one, others = truth.take(kinds == kind), truth.take(kinds != kind)
                figures[f"{name}, {split} {kind}"] = evaluate_calls(calls, ranked, one, megabases, others)
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


def rounds_of(fields: dict[str, Any], seed: int) -> Rounds:
    """How a network is trained, from fields as JSON has them."""
    return Rounds(seed=seed, **{name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--protocol", choices=("all", "clade", "family"), default="all")
    parser.add_argument("--model", default="duplex-single")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--only", nargs="*", help="models of the protocol to train, such as fold1; all by default")
    parser.add_argument("--rounds", type=json.loads, default={}, help="fields of Rounds, as JSON")
    parser.add_argument("--name", default="run", help="of the trained weights in the work folder")
    parser.add_argument("--yardsticks", action="store_true")
    parser.add_argument("--production", type=Path, help="train on everything and save the weights here")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    corpus = read_corpus(options.data, options.work)
    log(f"{sum(c.labelled.hairpins.size for c in corpus.contigs)} hairpins, {len(corpus.precursors)} precursors")
    rounds = {seed: rounds_of(options.rounds, seed) for seed in options.seeds}
    spec = MODELS[options.model]
    home = options.work / options.name
    if options.production:
        training = training_set(corpus, protocols(corpus, "none")["production"])
        trees = [mine(spec, *training, each, home / f"production{seed}", log) for seed, each in rounds.items()]
        members = {"members": {str(number): tree for number, tree in enumerate(trees)}}
        about = {"model": "duplex", "rounds": [asdict(each) for each in rounds.values()]}
        known = {"findings": remember(members, training[0], training[1])}
        checkpoints.save(options.production, members, about, half=True, beside={PRECURSORS: known})
        return
    ensemble = f"{options.model}, mean of {len(rounds)}"
    tables: dict[str, dict[str, np.ndarray]] = {ensemble: {}}
    for name, held in protocols(corpus, options.protocol).items():
        if options.only and name not in options.only:
            continue
        contigs = [c for c, out in zip(corpus.contigs, held.contigs, strict=True) if out]
        training = training_set(corpus, held)
        describe_loci(corpus, held)
        logits: dict[str, list[np.ndarray]] = {c.name: [] for c in contigs}
        for seed, each in rounds.items():
            kept = home / f"seed{seed}-{name}" / "scores.npz"
            if not kept.exists():
                module = spec.build(rngs=nnx.Rngs(0))
                set_weights(module, mine(spec, *training, each, kept.parent, log))
                arrays: dict[str, Any] = {c.name: score_hairpins(module, c.labelled.hairpins) for c in contigs}
                np.savez(kept, **arrays)
            alone = tables.setdefault(f"{options.model}, seed {seed}", {})
            with np.load(kept) as saved:
                for c in contigs:
                    logits[c.name].append(saved[c.name])
                    alone[c.name] = scored(c, [saved[c.name]], spec)
        joint = {c.name: scored(c, logits[c.name], spec) for c in contigs}
        tables[ensemble] |= joint
        (home / name).mkdir(parents=True, exist_ok=True)
        np.savez(home / name / "scores.npz", **joint)  # type: ignore[arg-type]
        log("\n".join([name, *rows_of(ensemble, judge(corpus, joint))]))
        if options.yardsticks:
            for label, change in (("neighbours", {"neighbour": 0.0}), ("copies nearby", {"copied": 0.0})):
                without = replace(spec, **change)
                rows = {c.name: scored(c, logits[c.name], without) for c in contigs}
                tables.setdefault(f"the same without {label}", {}).update(rows)
            tables.setdefault("gradient boosting", {}).update(boosting(training, contigs))
            for c in contigs:
                found, residual = c.labelled.hairpins, SCALARS.index("energy_residual")
                tables.setdefault("energy", {})[c.name] = -found.energies
                tables.setdefault("energy residual", {})[c.name] = -found.scalars[:, residual]
    print("| set | ranked by | found by any call | AP (95 %) | max F1 | recall at 1 5 20 100 / Mb | antisense |")
    print("|---|---|---|---|---|---|---|")
    for label, table_of in tables.items():
        print("\n".join(rows_of(label, judge(corpus, table_of))), flush=True)
    for split in ("support", "family"):
        print("\n".join(rows_of(ensemble, judge(corpus, tables[ensemble], split))), flush=True)


if __name__ == "__main__":
    main()
