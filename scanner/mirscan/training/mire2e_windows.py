"""Precursors and background genomes to training examples, split so that no family and no place is in two parts."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from mirscan.files import save_arrays
from mirscan.genome import open_genome
from mirscan.kernels.bases import ABSENT, AMBIGUOUS, CODE, reverse_complement
from mirscan.types import InputError

PARTS = ("train", "validation", "test")
PRECURSOR, BACKGROUND, PSEUDO = 1, 0, 2
"""Labels: a known precursor, a window of a genome, a pseudo hairpin from coding sequence."""

PLANTS = frozenset(
    """
    aau ahy ama amg aly aof aqc ata ath atr bcy bdi bgy bna bol bra cas cca ccl cln cme cpa cre crt csi cst ctr
    dpr egu esi eun far fve gar ghb ghr gma gra gso han har hbr hci hex hpa hpe htu hvu lja lus mdm mes mtr nta
    osa pab pde peu pgi phy pin pla ppe ppt pra psj pta ptc pti pvu rco rgl sbi seu sly smi smo sof ssl ssp stu
    tae tcc ttu vca vun vvi zma ddi smc
    """.split()  # noqa: SIM905
)
"""miRBase species codes that are no animals: plants, algae, oomycetes, slime moulds."""

LINEAGES = {
    code: lineage
    for lineage, codes in {
        "nematode": "asu bma cbn cbr cel crm hco hpo ppc prd str",
        "arthropod": """
            aae aga ame api bge bib bmo cqu csc dan der dgr dme dmo dpe dps dpu dqu dse dsi dvi dwi dya hme isc lmi
            lpo mja mse ngi nlo nvi pca pte pxy rmi sfr smr tca tcf tur
        """,
        "other invertebrate": """
            aqu bbe bfl bla cgi cin cla csa cte efe egr emu esc fhe gpy gsa hma hru lan lco lgi lva mco mle npo nve
            obi odi ovu pfl pmi sci sja sko sma sme spt spu xbo
        """,
    }.items()
    for code in codes.split()
}
"""Lineages of invertebrates by species codes of miRBase and MirGeneDB; all other animals count as vertebrates."""


@dataclass(frozen=True)
class Precursor:
    """A known precursor: miRBase or MirGeneDB identifier, organism, codes (uint8) 5' to 3'."""

    name: str
    organism: str
    codes: np.ndarray

    @property
    def species(self) -> str:
        """Species code, lower case."""
        return self.name.split("-", 1)[0].lower()

    @property
    def clade(self) -> str:
        """``virus``, ``plant`` (with other non-animals) or ``animal``."""
        if "virus" in self.organism.lower():
            return "virus"
        return "plant" if self.species in PLANTS else "animal"

    @property
    def lineage(self) -> str:
        """Vertebrate, one of `LINEAGES`, or the clade where it is no animal."""
        return LINEAGES.get(self.species, "vertebrate") if self.clade == "animal" else self.clade

    @property
    def family(self) -> str:
        """Family by name: what remains after species, arm, paralogue letter and copy number."""
        stem = re.sub(r"_pre$|-(3p|5p)$", "", self.name.split("-", 1)[-1].lower())
        found = re.match(r"(mir|let|bantam|lin|lsy|iab|novel)-?(\d*)", stem)
        return f"{found[1]}-{found[2]}" if found else stem


@dataclass(frozen=True)
class Locus:
    """A known hairpin of a genome, 0-based half-open."""

    contig: str
    start: int
    end: int
    strand: str
    name: str
    attributes: dict[str, str] = field(default_factory=dict, compare=False)
    """Column 9 of its GFF3 row."""


def read_precursors(path: Path) -> list[Precursor]:
    """Read a FASTA of precursors, plain or gzip; bases that are no A, C, G, T or U become ambiguous.

    Raises
    ------
    InputError
        If the file cannot be read or holds no record.
    """
    found: list[Precursor] = []
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt") as lines:  # type: ignore[operator]
            for record in lines.read().split(">")[1:]:
                header, _, body = record.partition("\n")
                fields = header.split()
                letters = np.frombuffer("".join(body.split()).encode("ascii"), dtype=np.uint8)
                found.append(Precursor(fields[0], " ".join(fields[2:]), np.minimum(CODE[letters], 4)))
    except (OSError, EOFError, UnicodeError, IndexError) as error:
        raise InputError(f"{path}: not a readable FASTA of precursors ({error})") from error
    if not found:
        raise InputError(f"{path}: no FASTA record found")
    return found


def read_loci(path: Path) -> list[Locus]:
    """Known hairpins (``miRNA_primary_transcript`` rows) of a GFF3 file, in file order."""
    loci = []
    with open(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.startswith("#") or not line.strip():
                continue
            fields = line.rstrip("\n").split("\t")
            if len(fields) != 9:
                raise InputError(f"{path}:{number}: a GFF3 row has 9 columns, this one {len(fields)}")
            if fields[2] in ("miRNA_primary_transcript", "pre_miRNA"):
                attributes = dict(pair.split("=", 1) for pair in fields[8].split(";") if "=" in pair)
                name = attributes.get("Name", attributes.get("ID", "."))
                loci.append(Locus(fields[0], int(fields[3]) - 1, int(fields[4]), fields[6], name, attributes))
    return loci


def kmers(codes: np.ndarray, k: int) -> np.ndarray:
    """Hash (uint64) of every k-mer along the last axis, k <= 31; the largest value where a base is ambiguous."""
    count = codes.shape[-1] - k + 1
    hashes = np.zeros((*codes.shape[:-1], max(count, 0)), dtype=np.uint64)
    broken = np.zeros(hashes.shape, dtype=bool)
    for offset in range(k):
        column = codes[..., offset : offset + count]
        hashes = (hashes << np.uint64(2)) | (column & 3).astype(np.uint64)
        broken |= column > 3
    hashes[broken] = np.iinfo(np.uint64).max
    return hashes


def group(precursors: Sequence[Precursor], k: int = 24) -> np.ndarray:
    """Number (int64) of each precursor's group: one family name, or sharing any exact k-mer, joins two precursors."""
    parent = np.arange(len(precursors))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    seen: dict[object, int] = {}
    for number, precursor in enumerate(precursors):
        words: list[object] = [precursor.family, *np.unique(kmers(precursor.codes, k)).tolist()]
        for word in words:
            parent[root(number)] = root(seen.setdefault(word, number))
    return np.array([root(i) for i in range(len(precursors))])


def split(precursors: Sequence[Precursor], placed: dict[str, str], seed: int = 0) -> np.ndarray:
    """Part (0 train, 1 validation, 2 test; uint8) of each precursor, whole groups together.

    Parameters
    ----------
    placed : dict
        Precursor name to the part of the contig it lies on: its whole group goes there, the strictest part first.
    """
    groups = group(precursors)
    order = {part: rank for rank, part in enumerate(PARTS)}
    forced: dict[int, int] = {}
    for precursor, number in zip(precursors, groups, strict=True):
        if placed.get(precursor.name, "train") != "train":
            forced[number] = max(forced.get(number, 0), order[placed[precursor.name]])
    generator = np.random.default_rng(seed)
    drawn = {number: int(np.searchsorted((0.8, 0.9), generator.random())) for number in np.unique(groups)}
    return np.array([forced.get(number, drawn[number]) for number in groups], dtype=np.uint8)


class Background:
    """Sequence of one part to draw windows from, free of known hairpins (either strand) and of their homologues."""

    POOL, LONGEST = 8192, 250
    """Stretches kept as flanks, and the longest precursor that is embedded in one, bases."""

    def __init__(
        self, contigs: Iterable[tuple[str, np.ndarray]], loci: Iterable[Locus], known: np.ndarray, window: int
    ) -> None:
        places: dict[str, list[Locus]] = {}
        for locus in loci:
            places.setdefault(locus.contig, []).append(locus)
        pieces = []
        for name, codes in contigs:
            codes = codes.copy()
            for locus in places.get(name, ()):
                codes[max(0, locus.start - 20) : locus.end + 20] = ABSENT
            pieces += [codes, np.full(1, ABSENT, dtype=np.uint8)]
        self.codes, self.known = np.concatenate(pieces), known
        generator = np.random.default_rng(0)
        pool = self.draw(generator, self.POOL, self.LONGEST + 2 * window)
        share = _strong(pool).mean(axis=1)
        order = np.argsort(share, kind="stable")
        self.pool, self.share = pool[order], share[order]

    def draw(self, generator: np.random.Generator, count: int, length: int) -> np.ndarray:
        """Random stretches, uint8 (count, length), either strand, without ambiguous bases or 20-mers of precursors."""
        kept: list[np.ndarray] = []
        while sum(map(len, kept)) < count:
            starts = generator.integers(0, len(self.codes) - length, size=min(2 * count, 20_000))
            block = self.codes[starts[:, None] + np.arange(length)]
            block = block[(block < AMBIGUOUS).all(axis=1)]
            words = kmers(block, 20)
            found = np.minimum(np.searchsorted(self.known, words), len(self.known) - 1)
            block = block[~(self.known[found] == words).any(axis=1)]
            turned = generator.random(len(block)) < 0.5
            block[turned] = reverse_complement(block[turned])
            kept.append(block)
        return np.concatenate(kept)[:count]

    def flanks(self, generator: np.random.Generator, codes: np.ndarray) -> np.ndarray:
        """One of the 64 stretches of the pool that are nearest to ``codes`` in G+C content."""
        near = np.searchsorted(self.share, _strong(codes).mean()) - 32
        return self.pool[np.clip(near, 0, len(self.pool) - 64) + generator.integers(64)]


def _strong(codes: np.ndarray) -> np.ndarray:
    return (codes == 1) | (codes == 2)


def known_kmers(precursors: Sequence[Precursor], k: int = 20) -> np.ndarray:
    """Sorted hashes of the k-mers of both strands of precursors."""
    both = [kmers(c, k) for p in precursors for c in (p.codes, reverse_complement(p.codes))]
    return np.unique(np.concatenate(both))


def embed(generator: np.random.Generator, codes: np.ndarray, background: Background, window: int) -> np.ndarray:
    """A window (uint8) that holds a precursor at a random offset in real background of like composition.

    At least nine tenths of the precursor lie in the window, or nine tenths of the window in the precursor.
    """
    stretch = background.flanks(generator, codes).copy()
    stretch[window : window + len(codes)] = codes
    return place(generator, stretch, window, window + len(codes), window)


def place(generator: np.random.Generator, stretch: np.ndarray, start: int, end: int, window: int) -> np.ndarray:
    """A window of ``stretch`` at a random offset over ``[start, end)``, of which it misses at most a tenth."""
    shorter = min(end - start, window)
    slack = shorter // 10
    low, high = sorted((end - window, start))
    first = generator.integers(max(0, low - slack), min(high + slack, len(stretch) - window) + 1)
    return stretch[first : first + window]


@dataclass(frozen=True)
class Examples:
    """Windows to learn from; every array has one row a window."""

    codes: np.ndarray
    """uint8 (N, window)"""
    label: np.ndarray
    """uint8: `PRECURSOR`, `BACKGROUND` or `PSEUDO`"""
    part: np.ndarray
    """uint8: index into `PARTS`"""
    source: np.ndarray
    """int32: index of the precursor, -1 for a negative"""

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: np.ndarray) -> Examples:
        """Some rows: an index array or a mask."""
        return Examples(self.codes[rows], self.label[rows], self.part[rows], self.source[rows])

    def save(self, path: Path, **more: np.ndarray) -> None:
        """Write the arrays, and others with as many rows, to one compressed file."""
        arrays = {"codes": self.codes, "label": self.label, "part": self.part, "source": self.source}
        save_arrays(path, arrays | more)


@dataclass(frozen=True)
class Sources:
    """Where examples come from.

    ``genomes`` are (FASTA, GFF3 of known hairpins or None); ``held_out`` maps a glob over ``stem:contig`` to
    ``validation`` or ``test``, every other contig being for training.
    """

    precursors: Path
    genomes: tuple[tuple[Path, Path | None], ...]
    held_out: tuple[tuple[str, str], ...] = ()
    pseudo: Path | None = None
    clades: frozenset[str] = frozenset({"animal"})


@dataclass(frozen=True)
class Corpus:
    """`Sources`, read: precursors with their part, each part's background, and real flanks where a locus is known."""

    precursors: list[Precursor]
    part: np.ndarray
    backgrounds: dict[str, Background]
    flanked: dict[str, tuple[str, np.ndarray]]
    """Precursor name to (part of its contig, codes of the locus with a window of flank on each side, 5' to 3')."""
    pseudo: np.ndarray

    def windows(self, generator: np.random.Generator, number: int, window: int) -> np.ndarray:
        """One positive window (uint8) of precursor ``number``, with its real flanks half the time if known."""
        precursor, part = self.precursors[number], PARTS[self.part[number]]
        home = self.flanked.get(precursor.name)
        if home is not None and home[0] == part and generator.random() < 0.5:
            return place(generator, home[1], window, len(home[1]) - window, window)
        return embed(generator, precursor.codes, self.backgrounds[part], window)


def read_corpus(sources: Sources, spool: Path, window: int = 100, seed: int = 0) -> Corpus:
    """Read precursors and genomes, and split both.

    Raises
    ------
    InputError
        If a file cannot be read, or a part is left without background.
    """
    everything = read_precursors(sources.precursors)
    known = known_kmers(everything)
    contigs: dict[str, list[tuple[str, np.ndarray]]] = {part: [] for part in PARTS}
    loci: list[Locus] = []
    placed: dict[str, str] = {}
    flanked: dict[str, tuple[str, np.ndarray]] = {}
    for fasta, gff3 in sources.genomes:
        stem = fasta.name.split(".fa")[0]
        here = read_loci(gff3) if gff3 else []
        genome = open_genome(fasta, spool=spool)
        for index, contig in enumerate(genome.contigs):
            key = f"{stem}:{contig.name}"
            part = next((part for glob, part in sources.held_out if fnmatch(key, glob)), "train")
            codes = genome.codes(index, 0, contig.length)
            contigs[part].append((key, codes))
            for locus in (locus for locus in here if locus.contig == contig.name):
                loci.append(Locus(key, locus.start, locus.end, locus.strand, locus.name))
                placed[locus.name] = max(part, placed.get(locus.name, part), key=PARTS.index)
                if locus.start >= window and locus.end + window <= contig.length:
                    stretch = codes[locus.start - window : locus.end + window]
                    flanked[locus.name] = (part, reverse_complement(stretch) if locus.strand == "-" else stretch)
        genome.close()
    empty = [part for part in PARTS if not contigs[part]]
    if empty:
        raise InputError(f"no contig is left for {', '.join(empty)}: hold out other contigs")
    precursors = [p for p in everything if p.clade in sources.clades and _usable(p)]
    backgrounds = {part: Background(contigs[part], loci, known, window) for part in PARTS}
    pseudo = np.empty((0, window), dtype=np.uint8)
    if sources.pseudo is not None:
        generator = np.random.default_rng(seed)
        hairpins = [p.codes for p in read_precursors(sources.pseudo) if _usable(p)]
        pseudo = np.stack([embed(generator, codes, backgrounds["train"], window) for codes in hairpins])
    return Corpus(precursors, split(precursors, placed, seed), backgrounds, flanked, pseudo)


def _usable(precursor: Precursor) -> bool:
    return bool((precursor.codes < AMBIGUOUS).all()) and 40 <= len(precursor.codes) <= Background.LONGEST


def draw_examples(
    corpus: Corpus, *, copies: int, background: dict[str, int], window: int = 100, seed: int = 0
) -> Examples:
    """Windows of every part: ``copies`` of each precursor, pseudo hairpins (train), background windows by part."""
    generator = np.random.default_rng(seed)
    codes: list[np.ndarray] = []
    label: list[int] = []
    part: list[int] = []
    source: list[int] = []

    def add(rows: Sequence[np.ndarray] | np.ndarray, kind: int, where: int, origin: Sequence[int] | int) -> None:
        codes.extend(rows)
        label.extend([kind] * len(rows))
        part.extend([where] * len(rows))
        source.extend([origin] * len(rows) if isinstance(origin, int) else origin)

    for number, where in enumerate(corpus.part):
        rows = [corpus.windows(generator, number, window) for _ in range(copies)]
        add(rows, PRECURSOR, int(where), number)
    add(corpus.pseudo, PSEUDO, 0, -1)
    for where, name in enumerate(PARTS):
        count = background.get(name, 0)
        if count:
            add(corpus.backgrounds[name].draw(generator, count, window), BACKGROUND, where, -1)
    order = generator.permutation(len(codes))
    return Examples(
        np.stack(codes)[order],
        np.array(label, dtype=np.uint8)[order],
        np.array(part, dtype=np.uint8)[order],
        np.array(source, dtype=np.int32)[order],
    )
