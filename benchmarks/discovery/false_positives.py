"""What the best false calls of a genome are: a line each, and how many of each kind, from the scores of a cross-fit.

python benchmarks/discovery/false_positives.py ../shared/data --work FOLDER --name run [--contigs cel_] [--top 100]
"""

from __future__ import annotations

import argparse
import gzip
from collections import Counter
from pathlib import Path

import numpy as np
from corpus import Contig, read_corpus, unseen_scores
from cross_fit import places

from mirscan.evaluation.matching import match, non_redundant
from mirscan.kernels.bases import decode, reverse_complement
from mirscan.kernels.hairpins import dot_brackets, trace_hairpins
from mirscan.known.precursors import kmers
from mirscan.structure.hairpins import SCALARS
from mirscan.structure.turner import turner_tables

WORD = 20
REPEATED, PERFECT, LONG = 1.2, 0.85, 105
"""Mean log2 of the counts of its words, share of its bases that pair, bases: from where on a call counts as such."""
KINDS = {"five_prime_UTR": "5' UTR", "three_prime_UTR": "3' UTR", "mRNA": "gene"}
Feature = tuple[int, int, str, str]


def read_genes(path: Path) -> dict[str, list[Feature]]:
    """``(start, end, strand, kind)`` of untranslated exons, transcripts and non-coding genes, by contig."""
    found: dict[str, list[Feature]] = {}
    with gzip.open(path, "rt") as lines:
        for line in lines:
            fields = line.split("\t")
            kind = None
            if len(fields) > 8:
                kind = "ncRNA" if fields[1] == "ncRNA" else KINDS.get(fields[2])
            if kind:
                found.setdefault(fields[0], []).append((int(fields[3]) - 1, int(fields[4]), fields[6], kind))
    return found


def copies(contigs: list[Contig], words: np.ndarray) -> np.ndarray:
    """How often (int64) each word stands in the contigs, on either strand."""
    sought = np.unique(words)
    count = np.zeros(len(sought), dtype=np.int64)
    for contig in contigs:
        for codes in (contig.codes, reverse_complement(contig.codes)):
            for first in range(0, len(codes), 1 << 22):
                here = kmers(codes[first : first + (1 << 22) + WORD - 1], WORD)
                place = np.minimum(np.searchsorted(sought, here), len(sought) - 1)
                count += np.bincount(place[sought[place] == here], minlength=len(sought))
    return count[np.searchsorted(sought, words)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", default="run")
    parser.add_argument("--contigs", default="cel_", help="how their names begin")
    parser.add_argument("--top", type=int, default=100)
    options = parser.parse_args()
    scores = unseen_scores(options.work / options.name)
    corpus = read_corpus(options.data, options.work)
    contigs = [c for c in corpus.contigs if c.name in scores and c.name.startswith(options.contigs)]
    calls, known, _ = places(contigs)
    values = np.concatenate([scores[c.name] for c in contigs])
    scalars = np.concatenate([c.labelled.hairpins.scalars for c in contigs])
    rows = non_redundant(calls, values)[: 20 * options.top]
    matches = match(calls.take(rows), known)
    annotation = options.data / "genomes" / "cel_ce10_chrI_II_III_M.genes.gff3.gz"
    genes = read_genes(annotation) if options.contigs.startswith("cel_") else {}
    tally: Counter[str] = Counter()
    false = np.flatnonzero(matches.known < 0)[: options.top]
    hits = np.flatnonzero(matches.known >= 0)
    print(f"{(hits < false[-1]).sum()} known hairpins stand among the first {false[-1] + 1} calls.\n")
    print("| place | strand | score | bases | kcal/mol | paired | copies | beside | sequence and structure |")
    print("|---|---|---|---|---|---|---|---|---|")
    sequences = []
    for row in rows[false]:
        codes = contigs[int(calls.contig[row])].codes[calls.start[row] : calls.end[row]]
        sequences.append(reverse_complement(codes) if calls.minus[row] else codes)
    words = [kmers(codes, WORD) for codes in sequences]
    counts = np.split(copies(contigs, np.concatenate(words)), np.cumsum([len(x) for x in words])[:-1])
    for number, rank in enumerate(false):
        row, codes = rows[rank], sequences[number]
        contig, start, end = contigs[int(calls.contig[row])], int(calls.start[row]), int(calls.end[row])
        structure = dot_brackets(
            trace_hairpins(codes, turner_tables(), np.array([0]), np.array([len(codes)])), np.array([len(codes)])
        )[0]
        repeated = int(np.median(counts[number]))
        strand = "-" if calls.minus[row] else "+"
        kinds = {
            kind + ("" if side == strand else " (other strand)")
            for low, high, side, kind in genes.get(contig.name.split(":")[1], [])
            if low < end and start < high
        }
        near = [x for x in contig.loci if x.start - 10_000 < end and start < x.end + 10_000]
        beside = sorted(kinds) + [f"{x.name} within 10 kb" for x in near[:1]]
        if matches.antisense[rank]:
            beside.insert(0, "antisense of a known hairpin")
        share = 2 * scalars[row, SCALARS.index("pairs")] / (end - start)
        tally.update(kinds)
        for kind, true in {
            f"words in the genome at least {2**REPEATED:.1f} times": scalars[row, SCALARS.index("copies")] >= REPEATED,
            f"exact {WORD}-mers repeated": repeated > 1,
            f"at least {PERFECT} of its bases paired": share >= PERFECT,
            f"at least {LONG} bases": end - start >= LONG,
            "lower energy on the other strand": scalars[row, SCALARS.index("opposite_difference")] > 0,
            "antisense of a known hairpin": bool(matches.antisense[rank]),
            "known hairpin within 10 kb": bool(near),
        }.items():
            tally[kind] += bool(true)
        print(
            f"| {contig.name.split(':')[1]}:{start + 1}-{end} | {strand} | {values[row]:.2f} | {end - start} |"
            f" {scalars[row, 0]:.1f} | {share:.2f} | {repeated} | {', '.join(beside)} |"
            f" `{decode(codes).decode()}` `{structure}` |"
        )
    print("\n| kind | of the false calls |\n|---|---|")
    for kind, count in tally.most_common():
        print(f"| {kind} | {count} |")


if __name__ == "__main__":
    main()
