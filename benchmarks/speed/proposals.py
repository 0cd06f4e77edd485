"""Proposals a megabase against the known hairpins that survive, genome by genome.

    python benchmarks/speed/proposals.py ../shared/data

Prints a Markdown table. A hairpin survives where a proposal covers at least half of it on its strand and is at most
three times as long. Rates count both strands and leave out ambiguous bases; MirGeneDB precursors stand alone, without
flanks.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mirscan.kernels.bases import encode, reverse_complement
from mirscan.structure.proposals import CEILING, Proposals, composition_threshold, propose
from mirscan.structure.turner import turner_tables

PIECE = 1 << 18
GENOMES = {  # the contig and megabases whose rate is counted; known hairpins are looked for in all of the file
    "worm chrI": ("cel_ce10_chrI_II_III_M", "chrI", (0, 15)),
    "worm chrI-III (rate: 2 Mb each)": ("cel_ce10_chrI_II_III_M", None, (2, 4)),
    "human chr1, 10 Mb": ("hsa_GRCh38_chr1_1-10Mb", None, (2, 10)),
    "human chr9, 1 Mb": ("hsa_GRCh38_chr9_1-1Mb", None, (0, 1)),
    "human ENm002": ("hsa_hg16_ENCODE_ENm002", None, (0, 1)),
    "human chr2, 2.3 Mb": ("hsa_GRCh38_chr2_1-2.3Mb", None, (0, 3)),
    "fly chr4": ("dme_dm3_chr4", None, (0, 2)),
    "fly 1 %": ("dme_r6_1pct", None, (0, 2)),
    "EBV": ("ebv_NC_007605.1", None, (0, 1)),
    "HCMV": ("hcmv_NC_006273.2", None, (0, 1)),
    "KSHV": ("kshv_137969bp", None, (0, 1)),
    "Arabidopsis 1 %": ("ath_TAIR10_1pct", None, (0, 2)),
}


def read_fasta(path: Path) -> dict[str, np.ndarray]:
    """Codes of every record, by the first word of its header."""
    with gzip.open(path, "rb") as stream:
        records = stream.read().split(b">")[1:]
    lines = (record.split(b"\n") for record in records)
    return {
        head.split()[0].decode(): encode(np.frombuffer(b"".join(x.strip() for x in body), np.uint8))
        for head, *body in lines
    }


def read_loci(path: Path) -> list[tuple[str, int, int, str]]:
    """``(contig, start, end, strand)`` of the precursors of a GFF3 file."""
    if not path.exists():
        return []
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    return [(r[0], int(r[3]) - 1, int(r[4]), r[6]) for r in rows if len(r) > 8 and r[2] == "miRNA_primary_transcript"]


def covered(found: Proposals, start: int, end: int) -> bool:
    """Whether a proposal stands for the hairpin ``[start, end)``."""
    overlap = np.minimum(found.ends, end) - np.maximum(found.starts, start)
    return bool(((2 * overlap >= end - start) & (found.ends - found.starts <= 3 * (end - start))).any())


def absolute(limit: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """One limit on energy + 0.15 kcal/mol a base for every composition."""
    return lambda fractions, lengths: limit - 0.15 * lengths


THRESHOLDS = {
    "all": (absolute(CEILING / 100), "none"),
    "absolute": (absolute(-6.0), "E + 0.15 L <= -6"),
    "composition": (composition_threshold, "composition"),
}


def survivors(codes: np.ndarray, first: int, last: int, span: int) -> dict[str, Proposals]:
    """The proposals of one strand under every threshold, from one pass of the recurrence."""
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def record(fractions: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        seen.append((fractions, lengths))
        return np.zeros(len(lengths))

    found = propose(codes, turner_tables(), first, last, span, record)
    kept = {key: found.energies <= threshold(*seen[0]) for key, (threshold, _) in THRESHOLDS.items()}
    return {key: Proposals(*(column[mask] for column in found)) for key, mask in kept.items()}


def row(name: str, folder: Path, file: str, only: str | None, megabases: tuple[int, int], span: int) -> str:
    """One line of the table."""
    genome = {k: v for k, v in read_fasta(folder / f"{file}.fa.gz").items() if only in (None, k)}
    loci = [locus for locus in read_loci(folder / f"{file}.gff3") if locus[0] in genome]
    counts, kept, bases = dict.fromkeys(THRESHOLDS, 0), dict.fromkeys(THRESHOLDS, 0), 0
    for contig, forward in genome.items():
        for strand, codes in (("+", forward), ("-", reverse_complement(forward))):
            low, high = (min(len(codes), x * 10**6) for x in megabases)
            bases += int((codes[low:high] < 4).sum())
            for first in range(low, high, PIECE):
                for key, found in survivors(codes, first, min(first + PIECE, high), span).items():
                    counts[key] += len(found.starts)
            for _, start, end, _ in (locus for locus in loci if locus[0] == contig and locus[3] == strand):
                at, to = (start, end) if strand == "+" else (len(codes) - end, len(codes) - start)
                for key, found in survivors(codes, max(0, at - 100), min(len(codes), to + 100), span).items():
                    kept[key] += covered(found, at, to)
    cells = [x for key in THRESHOLDS for x in (f"{2e6 * counts[key] / bases:,.0f}", f"{kept[key]}")]
    return f"| {name} | {span} | {len(loci)} | " + " | ".join(cells) + " |"


def precursors(path: Path, span: int) -> str:
    """The line of MirGeneDB."""
    kept, records = dict.fromkeys(THRESHOLDS, 0), read_fasta(path)
    for codes in records.values():
        for key, found in survivors(codes, 0, len(codes), span).items():
            kept[key] += covered(found, 0, len(codes))
    cells = [x for key in THRESHOLDS for x in ("", f"{kept[key]} ({100 * kept[key] / len(records):.1f} %)")]
    return f"| MirGeneDB precursors | {span} | {len(records)} | " + " | ".join(cells) + " |"


def cpu() -> str:
    """Name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((x.partition(": ")[2] for x in lines if x.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with genomes/ and mirgenedb/")
    arguments = parser.parse_args()
    print(f"`python benchmarks/speed/proposals.py`, {cpu()}, {datetime.date.today()}\n")
    heads = [f"per Mb ({label}) | survive" for _, label in THRESHOLDS.values()]
    print("| genome | span | known | " + " | ".join(heads) + " |")
    print("|---|---|---|" + "---|---|" * len(THRESHOLDS))
    for name, (file, only, megabases) in GENOMES.items():
        print(row(name, arguments.data / "genomes", file, only, megabases, 120), flush=True)
    print(row("Arabidopsis 1 %", arguments.data / "genomes", "ath_TAIR10_1pct", None, (0, 2), 200), flush=True)
    print(precursors(arguments.data / "mirgenedb/precursors.fa.gz", 120), flush=True)


if __name__ == "__main__":
    main()
