"""What the own model learns from, and what it may not see: the shared genomes and precursors, held out by protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mirscan.genome import open_genome
from mirscan.known.precursors import Locus, Precursor, group, known_kmers, read_loci, read_precursors
from mirscan.structure.copies import Copies, count_copies
from mirscan.structure.hairpins import SCALARS, Hairpins, contig_hairpins
from mirscan.training.background import Background
from mirscan.training.duplex_labels import (
    ANTISENSE,
    BACKGROUND,
    PRECURSOR,
    Curated,
    embed_precursors,
    held_out,
    label_hairpins,
    precursor_weights,
    supported,
)
from mirscan.training.duplex_stems import cuts, read_arms, with_lower_stems

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
"""The fold that holds out the viral genomes learns from no virus at all: they are a new clade."""
CLADES = {  # clade: prefix of its genomes, and the species codes of its precursors
    "worm": ("cel_", "cel cbr crm cbn ppc bma asu hco prd str hpo"),
    "human": ("hsa_", "hsa mml ggo ppy ppa age ptr lla mne sla lca ssy pbi cja sbo pha oga mmr dma nle"),
}
"""Nematodes and primates; the herpesviruses are held out with all viruses in the first fold."""
SPECIES = ("cel", "hsa", "ebv", "hcmv", "kshv")
"""Of the loci that models are judged on."""
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
    cuts: np.ndarray
    """Of the precursors, see `mirscan.training.duplex_stems.cuts`."""
    supported: np.ndarray
    """Which precursors (bool) MirGeneDB supports."""
    known: np.ndarray
    """Words of every known precursor."""
    work: Path


@dataclass(frozen=True)
class Held:
    """What a model may not see and is judged on."""

    name: str
    contigs: np.ndarray
    """bool, by contig: neither background nor context comes from them."""
    precursors: np.ndarray
    """bool, by precursor."""
    borrowed: tuple[tuple[str, int], ...]
    """Embedded precursors to learn from: whose contigs lend the context (see `embedded`), and a seed."""


def read_corpus(data: Path, work: Path) -> Corpus:
    """Read, fold and label everything; hairpins are kept in the work folder."""
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
    weights = precursor_weights(precursors, curated, DOUBTFUL)
    places = cuts(precursors, read_arms(data / "mirbase" / "v22_mature_placements.tsv.gz"))
    return Corpus(precursors, weights, contigs, places, supported(precursors, curated), known, work)


def table(path: Path, codes: np.ndarray, copies: Copies) -> Hairpins:
    """The hairpins of a contig, kept in a folder."""
    if not path.exists():
        found = contig_hairpins(codes, copies=copies)
        path.mkdir(parents=True)
        for name, column in found._asdict().items():
            np.save(path / f"{name}.npy", column)
    return Hairpins(*(np.load(path / f"{name}.npy") for name in Hairpins._fields))


def unseen_scores(home: Path) -> dict[str, np.ndarray]:
    """Scores by contig that `cross_fit.py` has left in a folder: each by networks that had not seen the contig."""
    scores: dict[str, np.ndarray] = {}
    for path in sorted(home.glob("fold*/scores.npz")):
        with np.load(path) as saved:
            scores |= dict(saved)
    return scores


def unique(loci: list[Locus]) -> list[Locus]:
    """One of every set of loci at the very same place: near-identical hairpins placed by mismatches."""
    return list({(locus.start, locus.end, locus.strand): locus for locus in reversed(loci)}.values())[::-1]


# ---------------------------------------------------------------------- protocols
def protocols(corpus: Corpus, protocol: str) -> dict[str, Held]:
    """What each model of a protocol may not see.

    ``all``: three folds of contigs, whose loci leave the positives by name and by a shared word of thirty bases within
    the species. ``family``: and every precursor of any species that is in a family with one of them. ``clade``: no
    precursor and no genome of nematodes, or of primates. ``none``: nothing is held out.
    """
    of_fold = np.array([contig.fold for contig in corpus.contigs])
    nothing = np.zeros(len(corpus.precursors), dtype=bool)
    if protocol == "none":
        tables = tuple((f"fold{k}", k) for k in range(FOLDS))
        return {"production": Held("production", of_fold < 0, nothing, tables)}
    if protocol == "clade":
        held = {}
        for name, (prefix, species) in CLADES.items():
            mine = np.array([contig.name.startswith(prefix) for contig in corpus.contigs])
            out = np.array([p.species in species.split() for p in corpus.precursors])
            held[f"clade-{name}"] = Held(f"clade-{name}", mine, out, ((f"not-{name}", 0), (f"not-{name}", 1)))
        return held
    families = group(corpus.precursors) if protocol == "family" else None
    held = {}
    for fold in range(FOLDS):
        out = judged(corpus, fold)
        if families is not None:
            out = np.isin(families, families[out])
        if fold == WITHOUT_VIRUSES:
            out = out | np.array([p.clade == "virus" for p in corpus.precursors])
        name = f"fold{fold}" if protocol == "all" else f"family-fold{fold}"
        tables = tuple((f"fold{k}", k) for k in range(FOLDS) if k != fold)
        held[name] = Held(name, of_fold == fold, out, tables)
    return held


def judged(corpus: Corpus, fold: int) -> np.ndarray:
    """Precursors (bool) that are loci of a fold's contigs."""
    out = np.zeros(len(corpus.precursors), dtype=bool)
    for species in SPECIES:
        loci = [x for c in corpus.contigs if c.fold == fold for x in c.loci if x.name.startswith(f"{species}-")]
        out |= held_out(corpus.precursors, loci, species)
    return out


# ---------------------------------------------------------------------- what to learn from
def embedded(corpus: Corpus, lenders: str, seed: int) -> Curated:
    """Precursors, completed and folded in the context of some contigs: ``foldK`` or ``not-CLADE``; kept in the folder.

    Lower stems are lent by no locus that any model is judged on, nor, for a clade, by its precursors.
    """
    path = corpus.work / f"embedded-{lenders}-{seed}.npz"
    if not path.exists():
        may_lend = ~np.any([judged(corpus, fold) for fold in range(FOLDS)], axis=0)
        if lenders.startswith("not-"):
            prefix, species = CLADES[lenders.removeprefix("not-")]
            hosts = [c for c in corpus.contigs if not c.name.startswith(prefix)]
            may_lend &= np.array([p.species not in species.split() for p in corpus.precursors])
        else:
            hosts = [c for c in corpus.contigs if c.fold in (int(lenders.removeprefix("fold")), ALWAYS)]
        loci = [Locus(c.name, x.start, x.end, x.strand, x.name) for c in hosts for x in c.loci]
        background = Background([(c.name, c.codes) for c in hosts], loci, corpus.known, 100)
        generator = np.random.default_rng(seed)
        whole = with_lower_stems(corpus.precursors, corpus.cuts, may_lend, generator)
        found = embed_precursors(whole, background, generator)
        np.savez(path, label=found.label, source=found.source, **found.hairpins._asdict())
    with np.load(path) as saved:
        hairpins = Hairpins(*(saved[name] for name in Hairpins._fields))
        return Curated(hairpins, saved["label"], saved["source"])


def joined(parts: Sequence[Hairpins]) -> Hairpins:
    """Hairpins of many contigs in one table."""
    return Hairpins(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def training_set(corpus: Corpus, held: Held) -> tuple[Hairpins, np.ndarray, Hairpins, Hairpins]:
    """Positives, their weights, background and antisense, without what is held out."""
    genomic = [c.labelled for c, out in zip(corpus.contigs, held.contigs, strict=True) if not out]
    borrowed = [with_copies(corpus, embedded(corpus, *each), genomic, n) for n, each in enumerate(held.borrowed)]
    positives, weights, antisense = [], [], []
    for labelled in (*borrowed, *genomic):
        usable = (labelled.source >= 0) & ~held.precursors[labelled.source]
        rows = np.flatnonzero((labelled.label == PRECURSOR) & usable)
        positives.append(labelled.hairpins.take(rows))
        weights.append(corpus.weights[labelled.source[rows]])
        antisense.append(labelled.hairpins.take((labelled.label == ANTISENSE) & usable))
    background = [labelled.hairpins.take(labelled.label == BACKGROUND) for labelled in genomic]
    return joined(positives), np.concatenate(weights), joined(background), joined(antisense)


def supported_rows(corpus: Corpus, labelled: Curated) -> np.ndarray:
    """Hairpins (bool) of a table that are precursors MirGeneDB supports."""
    return (labelled.label == PRECURSOR) & (labelled.source >= 0) & corpus.supported[labelled.source]


def with_copies(corpus: Corpus, embedded: Curated, genomic: list[Curated], seed: int) -> Curated:
    """Embedded precursors with copies as supported ones have them in their genomes: their own genomes are not here.

    Of the entries of miRBase that MirGeneDB does not support many are repeats.
    """
    column = SCALARS.index("copies")
    rows = [supported_rows(corpus, g) for g in genomic]
    seen = np.concatenate([g.hairpins.scalars[mine, column] for g, mine in zip(genomic, rows, strict=True)])
    scalars = embedded.hairpins.scalars.copy()
    scalars[:, column] = np.random.default_rng(seed).choice(seen, len(scalars))
    return replace(embedded, hairpins=embedded.hairpins._replace(scalars=scalars))


def describe_loci(corpus: Corpus, held: Held) -> None:
    """Note on the loci that are held out whether MirGeneDB supports them, and whether their family was trained on."""
    number = {p.name: i for i, p in reversed(list(enumerate(corpus.precursors)))}
    families = group(corpus.precursors)
    trained = set(families[~held.precursors].tolist())
    for contig, out in zip(corpus.contigs, held.contigs, strict=True):
        for locus in contig.loci if out else ():
            mine = number.get(locus.name, -1)
            locus.attributes["support"] = "yes" if mine >= 0 and corpus.supported[mine] else "no"
            locus.attributes["family"] = "seen" if mine >= 0 and families[mine] in trained else "unseen"
