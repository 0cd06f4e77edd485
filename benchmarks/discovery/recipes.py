"""Judges one recipe of `mirscan.training.duplex_rounds` by held-out families too: 65 loci cannot rank recipes.

    python benchmarks/discovery/recipes.py ../shared/data --work FOLDER --name NAME [--fold fold1] [--seed 1]
        [--rounds '{"hard": 100000, "repeated": 1, "epochs": [2, 5]}'] [--model duplex-single]

Besides the loci of a fold's contigs, one family in sixteen is held out. Printed are the figures of the contigs, with
and without what lies near counted in; the share of the held-out families' supported precursors, in borrowed context,
that score above the best 1, 5, 20 and 100 background hairpins a megabase; and the mean logit of the fold's supported
loci in their place, beside that of the same precursors in borrowed context: where the second is far higher, the network
has learned what gives a borrowed context away, and the families' share means little.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from corpus import (
    Contig,
    Corpus,
    embedded,
    protocols,
    read_corpus,
    supported_rows,
    training_set,
    with_copies,
)
from cross_fit import judge, log, rounds_of, rows_of, scored
from flax import nnx

from mirscan.kernels.words import MIXER
from mirscan.known.precursors import group
from mirscan.models import MODELS, set_weights
from mirscan.training.duplex_labels import BACKGROUND, Curated
from mirscan.training.duplex_rounds import mine, score_hairpins

SHARE = 16
"""One family in so many is held out."""
LARGE = 5.0
"""Megabases of a contig whose background counts."""
RATES = (1, 5, 20, 100)


def held_families(corpus: Corpus) -> np.ndarray:
    """Precursors (bool) of the families that are held out: chosen by a hash of their number."""
    mixed = group(corpus.precursors).astype(np.uint64) * MIXER
    return (mixed >> np.uint64(40)) % np.uint64(SHARE) == 3


def borrowed_rows(corpus: Corpus, table: Curated, wanted: np.ndarray) -> np.ndarray:
    """A row of each supported precursor among ``wanted`` (bool, by precursor) in a table of embedded ones."""
    rows = np.flatnonzero(supported_rows(corpus, table) & wanted[table.source])
    return rows[np.unique(table.source[rows], return_index=True)[1]]


def compare_contexts(corpus: Corpus, contigs: list[Contig], table: Curated, module: nnx.Module) -> str:
    """Mean logits of the supported loci of some contigs, in place and in borrowed context."""
    sources, logits = [], []
    for contig in contigs:
        loci = contig.labelled.take(supported_rows(corpus, contig.labelled))
        sources.append(loci.source)
        logits.append(score_hairpins(module, loci.hairpins))
    source, value = np.concatenate(sources), np.concatenate(logits)
    rows = borrowed_rows(corpus, table, np.isin(np.arange(len(corpus.precursors)), source))
    borrowed = score_hairpins(module, table.hairpins.take(rows))
    own = np.array([value[source == number].max() for number in table.source[rows]])
    return f"{len(rows)} loci: mean logit in place {own.mean():.2f}, in borrowed context {borrowed.mean():.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", required=True, help="of the recipe: its folder in the work folder")
    parser.add_argument("--fold", default="fold1")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=json.loads, default={}, help="fields of Rounds, as JSON")
    parser.add_argument("--model", default="duplex-single")
    options = parser.parse_args()
    corpus = read_corpus(options.data, options.work)
    held = protocols(corpus, "all")[options.fold]
    families = held_families(corpus)
    training = training_set(corpus, replace(held, precursors=held.precursors | families))
    spec = MODELS[options.model]
    module = spec.build(rngs=nnx.Rngs(0))
    rounds = rounds_of(options.rounds, options.seed)
    set_weights(module, mine(spec, *training, rounds, options.work / options.name, log))
    contigs = [c for c, out in zip(corpus.contigs, held.contigs, strict=True) if out]
    logits = {c.name: score_hairpins(module, c.labelled.hairpins) for c in contigs}
    for label, row in ((options.name, spec), (f"{options.name}, alone", replace(spec, neighbour=0.0, copied=0.0))):
        print("\n".join(rows_of(label, judge(corpus, {c.name: scored(c, [logits[c.name]], row) for c in contigs}))))
    genomic = [c.labelled for c, out in zip(corpus.contigs, held.contigs, strict=True) if not out]
    table = with_copies(corpus, embedded(corpus, *held.borrowed[0]), genomic, 0)
    found = score_hairpins(module, table.hairpins.take(borrowed_rows(corpus, table, families)))
    for contig in contigs:
        megabases = float((contig.codes < 4).sum()) / 1e6
        if megabases >= LARGE:
            best = np.sort(logits[contig.name][contig.labelled.label == BACKGROUND])[::-1]
            shares = " ".join(f"{(found > best[int(rate * megabases)]).mean():.2f}" for rate in RATES)
            print(f"{len(found)} precursors of held-out families above {RATES} a Mb of {contig.name}: {shares}")
    print(compare_contexts(corpus, contigs, table, module))


if __name__ == "__main__":
    main()
