"""What a user may ask of a scan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mirscan.calls.precision import known_per_megabase
from mirscan.errors import UsageError

DEFAULT_MODEL = "duplex"


@dataclass(frozen=True)
class Options:
    """What a user may ask of a scan; the names are the command line's."""

    output: Path | None = None
    """The track; a shard of a plan writes none."""
    bed: Path | None = None
    gff3: Path | None = None
    fasta: Path | None = None
    per_strand: bool = False
    model: str = DEFAULT_MODEL
    weights: Path | None = None
    adapt: bool = False
    step: int | None = None
    regions: tuple[str, ...] = ()
    regions_file: Path | None = None
    exclude: tuple[str, ...] = ()
    min_contig: int = 0
    contig_alias: Path | None = None
    soft_mask: Literal["scan", "skip"] = "scan"
    ambiguous: Literal["skip", "zero"] = "skip"
    calls_per_mb: float = 20.0
    min_score: float | None = None
    min_precision: float | None = None
    clade: str | None = None
    prevalence: float | None = None
    folder: str | None = None
    known: Path | None = None
    annotate: bool = False
    store: str | None = None
    rm_store: bool = False
    fresh: bool = False
    batch: int | None = None
    mini_batch: int | None = None
    part_windows: int | None = None
    devices: int | None = None
    threads: int | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    hairpins: Literal["numba", "jax"] | None = None
    """What computes stem-loops; it moves no score."""

    def __post_init__(self) -> None:
        """Take names of files as text too, and one region as well as many."""
        for name in ("output", "bed", "gff3", "fasta", "weights", "regions_file", "contig_alias", "known"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, Path(value))
        for name in ("regions", "exclude"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        if self.store is not None:
            object.__setattr__(self, "store", str(self.store))


def check_choice(options: Options) -> None:
    """Refuse what no calls can be chosen by.

    Raises
    ------
    UsageError
        Naming the option.
    """
    known_per_megabase(options.clade, options.prevalence)
    if options.calls_per_mb < 0:
        raise UsageError(f"--calls-per-mb {options.calls_per_mb}: must not be negative")
    if options.min_precision is not None:
        if not 0 < options.min_precision < 1:
            raise UsageError(f"--min-precision {options.min_precision:g}: must be above 0 and below 1")
        if options.min_score is not None:
            raise UsageError("--min-precision and --min-score: give one of them")
        if options.annotate:
            raise UsageError("--min-precision and --annotate: precision is estimated from the score alone")
