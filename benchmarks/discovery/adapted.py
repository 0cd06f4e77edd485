"""What adapting the last layers to a genome brings, of which no relative was trained on.

    python benchmarks/discovery/adapted.py ../shared/data --work FOLDER --name run [--only clade-worm] [--seeds 0 1]

After `cross_fit.py --protocol clade` (and `--protocol all`, whose fold0 learns from no virus), whose trained networks
are in the work folder. The genome's own hairpins are the unlabelled background; what is found in each is judged by
layers that learned from the other half of the genome, as `mirscan adapt` does it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from corpus import joined, protocols, read_corpus, training_set
from cross_fit import judge, log, rows_of, scored

from mirscan.genome.halves import fold_of
from mirscan.models import MODELS
from mirscan.models.duplex import FOLDS
from mirscan.training.adapt import findings_in, last_layers, logits_of, refit, remember
from mirscan.training.loop import best_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", default="run")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--only", nargs="*", default=["clade-worm", "clade-human"])
    options = parser.parse_args()
    corpus = read_corpus(options.data, options.work)
    spec = MODELS["duplex"]
    print("| set | ranked by | found by any call | AP (95 %) | max F1 | recall at 1 5 20 100 / Mb | antisense |")
    print("|---|---|---|---|---|---|---|")
    for name, held in (protocols(corpus, "all") | protocols(corpus, "clade")).items():
        if name not in options.only:
            continue
        home = options.work / options.name
        trees = [best_weights(max((home / f"seed{seed}-{name}").glob("round*"))) for seed in options.seeds]
        tree = {"members": {str(number): each for number, each in enumerate(trees)}}
        positives, chance, *_ = training_set(corpus, held)
        known = remember(tree, positives, chance)
        contigs = [c for c, out in zip(corpus.contigs, held.contigs, strict=True) if out]
        found = [c.labelled.hairpins for c in contigs]
        folds = np.concatenate([fold_of(n, f.starts, f.ends, FOLDS) for n, f in enumerate(found)])
        findings = findings_in(tree, joined(found))
        megabases = [sum((c.codes < 4).sum() for c in contigs) / 1e6 / FOLDS] * FOLDS
        learned = refit(tree, known, findings, folds, megabases, log=log)
        ends = np.cumsum([each.size for each in found])[:-1]
        for label, layers in (("as trained", [last_layers(tree)] * FOLDS), ("adapted", learned.judgements)):
            logits = np.zeros(len(folds), dtype=np.float32)
            for fold, layer in enumerate(layers):
                logits[folds == fold] = logits_of(layer, findings[folds == fold])
            tables = {c.name: scored(c, [mine], spec) for c, mine in zip(contigs, np.split(logits, ends), strict=True)}
            print("\n".join(rows_of(f"{name}, {label}", judge(corpus, tables))), flush=True)


if __name__ == "__main__":
    main()
