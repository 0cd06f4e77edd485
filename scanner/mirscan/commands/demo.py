"""`mirscan demo`: make an example genome, scan it as any other, and say what became of the hairpins planted in it."""

from __future__ import annotations

import errno
import os
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mirscan.checkpoints.weights import find, verify
from mirscan.errors import InputError, Stop
from mirscan.evaluation.ranking import percentile
from mirscan.files.atomic import write_file
from mirscan.files.folders import claim
from mirscan.files.kinds import DEMO, WEIGHTS
from mirscan.models import find_model
from mirscan.paths import Paths, run_file
from mirscan.scanning.loop import Progress
from mirscan.scanning.options import Options
from mirscan.scanning.run import scan_genome
from mirscan.store import ScoreStore
from mirscan.types import STRANDS, Strand

PRECURSORS = """
>cel-lin-4 MI0000002
AUGCUUCCGGCCUGUUCCCUGAGACCUCAAGUGUGAGUGUACUAUUGAUGCUUCACACCUGGGCUCUCCGGGUACCAGGACGGUUUGAGCAGAU
>hsa-let-7a-1 MI0000060
UGGGAUGAGGUAGUAGGUUGUAUAGUUUUAGGGUCACACCCACCACUGGGAGAUAACUAUACAAUCUACUGUCUUUCCUA
>hsa-mir-17 MI0000071
GUCAGAAUAAUGUCAAAGUGCUUACAGUGCAGGUAGUGAUAUGUGCAUCUACUGCAGUGAAGGCACUUGUAGCAUUAUGGUGAC
>hsa-mir-21 MI0000077
UGUCGGGUAGCUUAUCAGACUGAUGUUGACUGUUGAAUCUCAUGGCAACACCAGUCGAUGGGCUGUCUGACA
>dme-mir-1 MI0000116
UUCAGCCUUUGAGAGUUCCAUGCUUCCUUGCAUUCAAUAGUUAUAUUCAAGCAUAUGGAAUGUAAAGAAGUAUGGAGCGAAAUCUGGCGAG
>hsa-mir-155 MI0000681
CUGUUAAUGCUAAUCGUGAUAGGGGUUUUUGCCUCCAACUGACUCCUACAUAUUAGCAUUAACAG
>mmu-mir-122 MI0000256
AGCUGUGGAGUGUGACAAUGGUGUUUGUGUCCAAACCAUCAAACGCCAUUAUCACACUAAAUAGCU
>dme-bantam MI0000387
AUUUGACUACGAAACCGGUUUUCGAUUUGGUUUGACUGUUUUUCAUACAAGUGAGAUCAUUUUGAAAGCUGAUUUUGUCAA
>hsa-mir-124-1 MI0000443
AGGCCUCUCUCUCCGUGUUCACAGCGGACCUUGAUUUAAAUGUCCAUACAAUUAAGGCACGCGGUGAAUGCCAAGAAUGGGGCUG
>hsa-mir-375 MI0000783
CCCCGCGACGAGCCCCUCGCACAAACCGGACCUGAGCGUUUUGUUCGUUCGGCUCGCGUGAGGC
>dre-mir-430a-1 MI0001527
GUCACUAUCGGUGCCCUCACAAAGGCACUGACUUGGAUGCUGCAUGUGGUAAGUGCUAUUUGUUGGGGUAGUUUCAAGUGAC
>gga-mir-133a-1 MI0001195
CAAUGCUUUGCUAAAGCUGGUAAAAUGGAACCAAAUCACCUCUUCAAUGGAUUUGGUCCCCUUCAACCAGCUGUAGCUAUGCAUUGA
"""
"""Hairpins of miRBase release 22 (Kozomara, Birgaoanu & Griffiths-Jones 2019, Nucleic Acids Research 47:D155)."""

CONTIGS = {"demo1": 40_000, "demo2": 20_000}
ISOCHORE = 5_000
GC_CONTENT = (0.38, 0.41, 0.36, 0.46, 0.53, 0.43, 0.39, 0.48)
"""Shares of G and C that the isochores take in turn: the range of human chromosomes."""
GAP = ("demo1", 19_800, 20_600)
SOFT_MASKED = ("demo2", 11_000, 14_000)
SEED = 2022
CALLS_PER_MB = 300.0
"""The usual 20 would be two calls: a real genome is not as crowded as this one."""
HELD = 0.8
"""Share of a hairpin that a window must hold to count as a window over it."""


@dataclass(frozen=True)
class Planted:
    """A known precursor in the example genome, at ``[start, end)`` of a strand."""

    name: str
    accession: str
    contig: str
    start: int
    end: int
    strand: Strand

    def overlap(self, start: np.ndarray | int, end: np.ndarray | int) -> np.ndarray:
        """Bases shared with intervals ``[start, end)``; negative where there are none."""
        return np.minimum(self.end, end) - np.maximum(self.start, start)


class Found(NamedTuple):
    """What a scan made of one planted hairpin: its best window among all windows, and whether it was called."""

    planted: Planted
    windows: int
    score: float
    rank: int
    percentile: float
    called: str


class Place(NamedTuple):
    """A call's interval and strand."""

    contig: str
    start: int
    end: int
    strand: str


def demonstrate(
    out: Path,
    *,
    model: str,
    weights: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    stop: Stop | None = None,
) -> str:
    """Make the example genome in ``out``, scan it, and return the findings as text.

    Writes ``demo.fa``, ``demo.truth.gff3`` (what was planted), and of the scan ``demo.bw``, one track a strand, and the
    calls as BED, GFF3 and FASTA. A scan that was stopped is resumed.

    Raises
    ------
    InputError
        If the folder holds other things than a demo or cannot be written, or no weights are there.
    """
    genome, planted = example_genome()
    fasta, truth = out / "demo.fa", out / "demo.truth.gff3"
    output = out / "demo.bw"
    options = Options(
        output=output, bed=out / "demo.bed", gff3=out / "demo.gff3", fasta=out / "demo.calls.fa",
        per_strand=True, model=model, weights=weights, calls_per_mb=CALLS_PER_MB,
    )  # fmt: skip
    verify(weights or find(find_model(model).name))
    Paths().makes("--out", out, DEMO).reads_folder("--weights", weights, WEIGHTS).look()
    try:
        claim(out, DEMO)
        write_file(fasta, "".join(f">{name}\n{_lines(sequence)}" for name, sequence in genome.items()).encode())
        write_file(truth, ("##gff-version 3\n" + "".join(map(_feature, planted))).encode())
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise InputError(f"{out}: {error.strerror}; give another folder with --out") from error

    record = scan_genome(fasta, options, report=report, stop=stop)

    calls = read_places(out / "demo.bed")
    found = compare(ScoreStore.open(f"{output}.store"), planted, calls)
    written = [fasta, truth, *map(Path, record["outputs"]), out / "demo.bed", out / "demo.gff3", out / "demo.calls.fa"]
    return "\n".join(
        [
            f"{len(planted)} precursors of miRBase 22 stand in {sum(CONTIGS.values()):,} bases of random sequence; "
            f"{model} scored {record['scored']:,} windows of both strands.",
            "",
            *_table(found),
            "",
            *_verdict(found, calls),
            "",
            *_directions(out, [*written, run_file(output)], found),
        ]
    )


def example_genome(seed: int = SEED) -> tuple[dict[str, str], list[Planted]]:
    """The example genome, name to sequence, and the precursors planted in it on alternating strands.

    The background is random but composed like a human chromosome: isochores, few CpG, runs of A and T, a gap of N and
    a soft-masked stretch. The same seed gives the same bytes everywhere.
    """
    random = np.random.default_rng(seed)
    genome = {name: background(length, random) for name, length in CONTIGS.items()}
    records = [record.split() for record in PRECURSORS.split(">")[1:]]
    room = sum(CONTIGS.values()) // len(records)
    planted: list[Planted] = []
    for contig, length in CONTIGS.items():
        for slot in range(length // room):
            name, accession, rna = records[len(planted)]
            start = room * slot + room // 2 + int(random.integers(-room // 4, room // 4))
            hairpin = Planted(name, accession, contig, start, start + len(rna), STRANDS[len(planted) % 2])
            dna = rna.replace("U", "T")
            letters = dna if hairpin.strand == "+" else dna.translate(str.maketrans("ACGT", "TGCA"))[::-1]
            genome[contig] = genome[contig][:start] + letters + genome[contig][hairpin.end :]
            planted.append(hairpin)
    for (contig, start, end), change in ((GAP, lambda letters: "N" * len(letters)), (SOFT_MASKED, str.lower)):
        genome[contig] = genome[contig][:start] + change(genome[contig][start:end]) + genome[contig][end:]
    return genome, planted


def background(length: int, random: np.random.Generator) -> str:
    """Random DNA from Markov chains of order 3, one for each isochore of `ISOCHORE` bases.

    CpG is as rare as methylation has made it in vertebrates (about a fifth of what its letters suggest), its decay
    products TpG and CpA are more frequent, TpA is less, and A and T run on.
    """
    letters, (a, c, g, t) = "ACGT", range(4)
    context, sequence = (a, c, t), []
    for first in range(0, length, ISOCHORE):
        gc = GC_CONTENT[first // ISOCHORE % len(GC_CONTENT)]
        chain = np.tile(np.array([1 - gc, gc, gc, 1 - gc]) / 2, (4, 4, 4, 1))
        for before, base, factor in ((c, g, 0.2), (t, a, 0.75), (t, g, 1.25), (c, a, 1.25)):
            chain[:, :, before, base] *= factor
        for base in (a, t):
            chain[base, base, base, base] *= 1.5
        limits = np.cumsum(chain / chain.sum(axis=-1, keepdims=True), axis=-1)[..., :3].tolist()
        for draw in random.random(min(ISOCHORE, length - first)).tolist():
            x, y, z = context
            context = (y, z, bisect(limits[x][y][z], draw))
            sequence.append(letters[context[2]])
    return "".join(sequence)


def compare(store: ScoreStore, planted: Sequence[Planted], calls: Sequence[Place]) -> list[Found]:
    """Find each planted hairpin's best window, its place among all scored windows, and the call that covers it."""
    plan = store.plan
    scores = np.concatenate([part for _, part in store.iter_scores()])
    everything = scores[~np.isnan(scores)]
    at = 0
    windows: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for piece in plan.pieces(0, plan.windows):
        contig = plan.contigs[piece.contig]
        starts = plan.grid.starts(contig.length, piece.first, piece.count)
        windows[contig.name] = starts, scores[at : at + piece.count]
        at += piece.count

    found = []
    for hairpin in planted:
        starts, both = windows[hairpin.contig]
        held = hairpin.overlap(starts, starts + plan.grid.window) >= HELD * (hairpin.end - hairpin.start)
        over = both[held, STRANDS.index(hairpin.strand)]
        best = float(np.nanmax(over))
        share = float(percentile(np.array([best]), everything)[0])
        rank = int((everything > best).sum()) + 1
        found.append(Found(hairpin, int(held.sum()), best, rank, share, _called(hairpin, calls)))
    return found


def read_places(bed: Path) -> list[Place]:
    """Intervals and strands of a BED of calls."""
    rows = [line.split("\t") for line in bed.read_text().splitlines() if not line.startswith("#")]
    return [Place(row[0], int(row[1]), int(row[2]), row[5]) for row in rows]


def _called(hairpin: Planted, calls: Sequence[Place]) -> str:
    half = (hairpin.end - hairpin.start) / 2
    strands = {c.strand for c in calls if c.contig == hairpin.contig and hairpin.overlap(c.start, c.end) >= half}
    return "yes" if hairpin.strand in strands else "other strand" if strands else "no"


def _table(found: Sequence[Found]) -> list[str]:
    rows = [f"{'hairpin':<16}{'accession':<11}{'place':<22}{'score':>8}{'rank':>7}{'percentile':>12}  called"]
    for row in found:
        name, accession, score = row.planted.name, row.planted.accession, f"{row.score:8.4f}{row.rank:7,}"
        place = f"{_region(row.planted)} {row.planted.strand}"
        rows.append(f"{name:<16}{accession:<11}{place:<22}{score}{row.percentile:12.2f}  {row.called}")
    return rows


def _verdict(found: Sequence[Found], calls: Sequence[Place]) -> list[str]:
    middle = float(np.median([row.percentile for row in found]))
    chance = float(np.median([100 * 0.5 ** (1 / row.windows) for row in found]))
    called = sum(row.called == "yes" for row in found)
    strands = [{_called(row.planted, [call]) for row in found} for call in calls]
    other = sum("other strand" in answers for answers in strands)
    elsewhere = sum(answers == {"no"} for answers in strands)
    opening = (
        "The planted precursors stand out" if middle >= 90 and middle > chance
        else "The planted precursors stand out only weakly" if middle > chance
        else "The planted precursors do not stand out: these weights have found nothing here"
    )  # fmt: skip
    return [
        f"{opening}.",
        f"Median percentile of their best windows: {middle:.1f} (chance: {chance:.0f}, as each is the best of a few).",
        f"{called} of {len(found)} are among the {len(calls)} calls. Of the other calls, {other} lie on the other "
        f"strand of one, and {elsewhere} in random",
        "sequence, which are false. Known precursors like these, or their relatives, may have been in the training",
        "data: this shows that everything works, not how good the model is. For that see `mirscan models`.",
    ]


def _directions(out: Path, files: Sequence[Path], found: Sequence[Found]) -> list[str]:
    best = min(found, key=lambda row: row.rank).planted
    tracks = [path.name for path in files if path.suffix != ".fa" and path.suffix != ".json"]
    return [
        f"The files are in {out}{os.sep}: {' '.join(path.name for path in files)}",
        "IGV: Genomes > Load Genome from File... > demo.fa, then File > Load from File... >",
        f"  {' '.join(tracks)}; go to {_region(best)} ({best.name}).",
        "UCSC shows tracks of assemblies it knows, so not of this one. Those of a real genome: put the .bw on a web",
        "  server and paste `track type=bigWig name=mirscan bigDataUrl=ADDRESS`; of the .bed paste `cut -f 1-6`.",
    ]


def _region(hairpin: Planted) -> str:
    return f"{hairpin.contig}:{hairpin.start + 1}-{hairpin.end}"


def _feature(hairpin: Planted) -> str:
    place = f"{hairpin.contig}\tmiRBase\tpre_miRNA\t{hairpin.start + 1}\t{hairpin.end}"
    return f"{place}\t.\t{hairpin.strand}\t.\tID={hairpin.accession};Name={hairpin.name}\n"


def _lines(sequence: str, width: int = 60) -> str:
    return "".join(f"{sequence[i : i + width]}\n" for i in range(0, len(sequence), width))
