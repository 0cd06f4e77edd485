"""Known precursors: read from FASTA and GFF3, named as in miRBase, grouped by family and by words."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mirscan.errors import InputError
from mirscan.kernels.bases import CODE, reverse_complement

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


def known_kmers(precursors: Sequence[Precursor], k: int = 20) -> np.ndarray:
    """Sorted hashes of the k-mers of both strands of precursors."""
    both = [kmers(c, k) for p in precursors for c in (p.codes, reverse_complement(p.codes))]
    return np.unique(np.concatenate(both))
