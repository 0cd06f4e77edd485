"""The published benchmarks' own data: every set of ``papers/`` in the DATA folder, as labelled sequences.

For the papers' own reruns only. Nothing here may train or select the models this project ships: these sets hold
precursors those models are judged on.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from mirscan.known.precursors import Precursor, read_precursors

DEEPMIRGENE = ("human", "whole", "new")
"""``whole`` is the papers' cross-species set."""
FOLDS = 5
TABLE_2 = {
    "NegHsa": "neghsa", "Zou": "zou", "Pseudo": "pseudo", "NotBestFold": "notbestfold", "Shuffled": "shuffled",
    "Chen": "chen", "hsa": "hsa", "mmu": "mmu", "mmu*": "mmustar", "miRBase": "mirbase", "MirGeneDB": "mirgenedb",
    "hsa+": "hsaplus", "mmu+": "mmuplus", "gga+": "ggaplus", "dre+": "dreplus",
}  # fmt: skip
"""Columns of Table 2 of the DeepMir paper, and the sets for `deepmir`."""
RELEASES = ("v18", "v20", "v21", "v22")


@dataclass(frozen=True)
class Labelled:
    """Labelled molecules, one a row, in the order of the published file.

    Attributes
    ----------
    names : tuple of str
        As published, without ``>``.
    sequences : tuple of str
        RNA, upper case, 5' to 3'; empty where only a name or an image was published.
    positive : (N,) bool
    families : tuple of str
        miRNA family by name (``mir-17``), empty where unknown: by the row's own name or by that of the miRBase
        precursor with the same sequence, so a negative may have one.
    origins : tuple of str
        The source as published, empty where there is only one.
    images : (N, 25, 100, 3) uint8 or None
        Hairpin images, where published.
    task : str
        ``precursor`` or ``mirtron``: what is positive.
    """

    names: tuple[str, ...]
    sequences: tuple[str, ...]
    positive: np.ndarray
    families: tuple[str, ...]
    origins: tuple[str, ...]
    images: np.ndarray | None = None
    task: str = "precursor"

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: np.ndarray) -> Labelled:
        """Some rows: an index array or a mask."""
        numbers = np.arange(len(self))[rows]
        columns = (self.names, self.sequences, self.families, self.origins)
        names, sequences, families, origins = (tuple(column[i] for i in numbers) for column in columns)
        images = None if self.images is None else self.images[numbers]
        return Labelled(names, sequences, self.positive[numbers], families, origins, images, self.task)

    def counts(self) -> tuple[int, int]:
        """How many rows are positive and how many negative."""
        found = int(self.positive.sum())
        return found, len(self) - found


def join(parts: Iterable[Labelled]) -> Labelled:
    """Sets of one task below one another, with images where all have them."""
    kept = list(parts)
    names, sequences, families, origins = (
        tuple(value for part in kept for value in getattr(part, column))
        for column in ("names", "sequences", "families", "origins")
    )
    drawn = [part.images for part in kept if part.images is not None]
    images = np.concatenate(drawn) if len(drawn) == len(kept) else None
    positive = np.concatenate([part.positive for part in kept])
    return Labelled(names, sequences, positive, families, origins, images, kept[0].task)


def as_rna(letters: str) -> str:
    """Upper case, with U for T."""
    return letters.upper().replace("T", "U")


def read_records(path: Path) -> list[tuple[str, str]]:
    """``(header, lines below it)`` of every record of a FASTA-like file, plain or gzip."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as lines:
        records = lines.read().split(">")[1:]
    parted = (record.partition("\n") for record in records)
    return [(header.strip(), body) for header, _, body in parted]


def read_fasta(path: Path) -> list[tuple[str, str]]:
    """``(header, RNA)`` of every record of a FASTA file, plain or gzip."""
    return [(header, as_rna("".join(body.split()))) for header, body in read_records(path)]


def family_of(name: str) -> str:
    """Family by the name of a miRBase or MirGeneDB precursor."""
    return Precursor(name, "", np.empty(0, dtype=np.uint8)).family


@cache
def known_families(data: Path) -> dict[bytes, str]:
    """Codes of every miRBase precursor of four releases (``tobytes``) to its family, later names first."""
    found = (read_precursors(data / "mirbase" / f"{release}_hairpin.fa.gz") for release in RELEASES)
    return {precursor.codes.tobytes(): precursor.family for release in found for precursor in release}


def families_of(data: Path, sequences: Iterable[str]) -> tuple[str, ...]:
    """Family of the miRBase precursor with exactly this sequence, or the empty string."""
    codes = str.maketrans("ACGU", "\0\1\2\3")
    known = known_families(data)
    return tuple(known.get(sequence.translate(codes).encode("latin-1"), "") for sequence in sequences)


def _from_fasta(data: Path, positives: Path, negatives: Path) -> Labelled:
    """Positives, then negatives."""
    records = [read_fasta(data / "papers" / "deepmirgene" / path) for path in (positives, negatives)]
    names, sequences = zip(*(record for part in records for record in part), strict=True)
    positive = np.repeat([True, False], [len(part) for part in records])
    return Labelled(names, sequences, positive, families_of(data, sequences), ("",) * len(names))


def deepmirgene(data: Path, name: str, part: Literal["all", "train", "test"] = "all") -> Labelled:
    """A set of the two deepMiRGene papers, positives first.

    Parameters
    ----------
    name : str
        ``human``, ``whole`` (the papers' cross-species set) or ``new``; a record's number is unique in its set.
    part : str
        ``train`` and ``test`` are the published 90 % and 10 % of ``human`` and ``whole``.
    """
    if name not in DEEPMIRGENE or (name == "new" and part != "all"):
        raise ValueError(f"no deepMiRGene set {name!r} with a part {part!r}")
    folder, suffix = {
        "all": (Path("sequences"), ""), "train": (Path("cv", name), "_all"), "test": (Path("test", name), "_test")
    }[part]  # fmt: skip
    return _from_fasta(data, *(folder / f"{name}_{label}{suffix}.fa.gz" for label in ("pos", "neg")))


def deepmirgene_folds(data: Path, name: str) -> np.ndarray:
    """The published fold (int64, 0 to 4) in which each row of ``deepmirgene(data, name, "train")`` validates.

    Raises
    ------
    ValueError
        If the validation parts are no partition of the rows.
    """
    rows = deepmirgene(data, name, "train")
    # by number and sequence: a sequence may stand in both classes, a number stands once
    number = {record: row for row, record in enumerate(zip(rows.names, rows.sequences, strict=True))}
    folds = np.full(len(rows), -1, dtype=np.int64)
    for fold in range(FOLDS):
        folder = Path("cv", name, "val")
        part = _from_fasta(data, *(folder / f"{name}_{label}_val_f{fold + 1}.fa.gz" for label in ("pos", "neg")))
        at = [number.get(record, -1) for record in zip(part.names, part.sequences, strict=True)]
        if min(at) < 0 or (folds[at] >= 0).any() or (rows.positive[at] != part.positive).any():
            raise ValueError(f"fold {fold + 1} of deepMiRGene {name} is no part of its training rows")
        folds[at] = fold
    if (folds < 0).any():
        raise ValueError(f"{(folds < 0).sum()} rows of deepMiRGene {name} are in no fold")
    return folds


def deepmirgene_examples(data: Path) -> Labelled:
    """The 48 sequences that came with deepMiRGene, under the labels its published model gave them."""
    folder = data / "papers" / "deepmirgene"
    names, sequences = zip(*read_fasta(folder / "examples.fa"), strict=True)
    positive = np.array((folder / "results.txt").read_text().split()) == "0"
    return Labelled(names, sequences, positive, families_of(data, sequences), ("",) * len(names))


def mirtrons(data: Path, part: Literal["all", "train", "test"] = "all") -> Labelled:
    """The 417 mirtrons (positive) and 707 canonical precursors of papers 003 and Zheng et al.

    The parts are Zheng's published split in the order of its shuffle: the first 201 mirtrons and the first 200
    canonical precursors test. ``all`` is in file order, which is close to sorted by class.
    """
    with open(data / "papers" / "mirtrons" / "mirtron1124.csv") as lines:
        rows = list(csv.DictReader(lines))
    if part != "all":
        rows = [row for row in rows if row["zheng_split_seed2"] == part]
        rows.sort(key=lambda row: int(row["order_after_shuffle"]))
    names, sequences, labels, origins = (
        tuple(row[key] for row in rows) for key in ("id", "sequence_rna", "label", "source_file")
    )
    families = tuple(
        family_of(name) if origin == "miRBase_set" else family
        for name, origin, family in zip(names, origins, families_of(data, sequences), strict=True)
    )
    positive = np.array(labels) == "mirtron"
    return Labelled(names, tuple(map(as_rna, sequences)), positive, families, origins, task="mirtron")


def stratified_folds(labelled: Labelled, count: int = FOLDS, seed: int = 0) -> np.ndarray:
    """A fold (int64) for every row, each class dealt out in random order: its sizes differ by at most one."""
    order = np.random.default_rng(seed).permutation(len(labelled))
    folds = np.empty(len(labelled), dtype=np.int64)
    # negatives first, then positives: dealt on without a break, whole folds differ by at most one row too
    folds[order[np.argsort(labelled.positive[order], kind="stable")]] = np.arange(len(labelled)) % count
    return folds


def deepmir_sets(data: Path) -> tuple[str, ...]:
    """Names for `deepmir`, a benchmark set without its prefix."""
    files = sorted((data / "papers" / "deepmir" / "tsv").glob("*.tsv.gz"))
    return tuple(path.name.removesuffix(".tsv.gz").removeprefix("benchmark_") for path in files)


def deepmir(data: Path, name: str) -> Labelled:
    """A set of DeepMir: ``modhsa_train``, ``modhsa_test``, ``nonhsa_modmirbase`` or a value of `TABLE_2`.

    Images stand where they were published. A sequence is miRBase's (release 21, by name), else the coding-sequence
    pseudo hairpin of that name, else read back from the image where its molecule is one stem-loop; else it is empty.
    The miRNA names of the set Zou are those its negatives were picked by, and give no sequence.
    """
    stem = next((s for s in (name, f"benchmark_{name}") if (_tsv(data, s)).exists()), None)
    if stem is None:
        raise ValueError(f"no DeepMir set {name!r}; there are {', '.join(deepmir_sets(data))}")
    with gzip.open(_tsv(data, stem), "rt") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    pseudo = _pseudo_hairpins(data)
    names = tuple(row["name"].lstrip(">") for row in rows)
    sequences = tuple(
        as_rna("" if row["origin"] == "zou" else row["mirbase21_seq"])
        or pseudo.get(name.lower(), "")
        or as_rna(row["image_seq"])
        for name, row in zip(names, rows, strict=True)
    )
    positive = np.array([row["label"] == "1" for row in rows])
    families = tuple(
        family_of(name) if real else family
        for name, real, family in zip(names, positive, families_of(data, sequences), strict=True)
    )
    return Labelled(names, sequences, positive, families, tuple(row["origin"] for row in rows), _images(data, stem))


def _tsv(data: Path, stem: str) -> Path:
    return data / "papers" / "deepmir" / "tsv" / f"{stem}.tsv.gz"


def _images(data: Path, stem: str) -> np.ndarray | None:
    path = data / "papers" / "deepmir" / f"{stem}_images.npz"
    if not path.exists():
        return None
    with np.load(path) as archive:
        published = archive["arr_0"]
    images = published.astype(np.uint8)
    if not np.array_equal(images, published):
        raise ValueError(f"{path}: intensities are not whole numbers from 0 to 255")
    return images


@cache
def _pseudo_hairpins(data: Path) -> dict[str, str]:
    """RNA of the classic coding-sequence pseudo hairpins by lower-case name."""
    records = read_fasta(data / "negatives" / "hsa_cds_pseudo_hairpins.fa.gz")
    return {header.split()[0].lower(): sequence for header, sequence in records}


def mirdnn_examples(data: Path) -> list[tuple[str, str, str, float]]:
    """``(name, RNA, dot-bracket, energy in kcal/mol)`` of the sixteen folded records that came with mirDNN."""
    found = []
    for header, body in read_records(data / "papers" / "mirdnn" / "test.fold"):
        sequence, structure, energy = body.split(maxsplit=2)
        found.append((header, as_rna(sequence), structure, float(energy.strip("() \n"))))
    return found


def mire2e_examples(data: Path) -> dict[str, str]:
    """The two stretches of human chromosome 19 (DNA, 600 and 459 bases) that came with miRe2e, by file name."""
    files = sorted((data / "papers" / "mire2e").glob("*.fa"))
    return {path.stem: read_fasta(path)[0][1].replace("U", "T") for path in files}
