"""Every option of a scan, once: its name, type, default, range, and what the help says of it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from mirscan.errors import UsageError

DEFAULT_MODEL = "duplex"
INPUT, OUTPUT, CALLS = "Input", "Output", "Calls"
SCANNED, STORE, SPEED = "What is scanned", "Store and resume", "Devices and speed"


@dataclass(frozen=True)
class Flag:
    """An option as the command line shows it."""

    help: str
    panel: str
    names: tuple[str, ...] = ()
    """As they are typed; ``--`` and the field's name by default."""
    old: tuple[str, ...] = ()
    """Names of an earlier version, which still work and are warned of."""
    least: float = -math.inf
    most: float = math.inf

    def shown(self, field: str) -> str:
        """The name that messages use."""
        return next((name for name in self.names if name.startswith("--")), f"--{field.replace('_', '-')}")


def _flag(default: Any, help: str, panel: str, *names: str, **more: Any) -> Any:
    return dataclasses.field(default=default, metadata={"flag": Flag(help, panel, names, **more)})


@dataclass(frozen=True)
class Options:
    """What a user may ask of a scan; the names are the command line's. Names of files may be text."""

    output: Path | None = _flag(None, "Track: .bw, .bedgraph[.gz] or .bed[.gz]", OUTPUT, "-o", "--output")
    bed: Path | None = _flag(None, "Calls as BED (column 7: the score)", OUTPUT)
    gff3: Path | None = _flag(None, "Calls as GFF3", OUTPUT)
    fasta: Path | None = _flag(None, "Sequences of the calls", OUTPUT, "--calls-fasta", old=("--fasta",))
    per_strand: bool = _flag(False, "Also x.plus.bw and x.minus.bw", OUTPUT, "--per-strand")
    model: str = _flag(DEFAULT_MODEL, "A model of `mirscan models`", INPUT)
    weights: Path | None = _flag(None, "Folder of other weights than the shipped", INPUT)
    adapt: bool = _flag(False, "First fit the model's last layers to this genome", INPUT, "--adapt")
    step: int | None = _flag(None, "Bases between windows (default: the model's, 20)", SCANNED, least=1)
    regions: tuple[str, ...] = _flag((), "chr1 or chr1:1,000-2,000 (1-based); repeatable", SCANNED)
    regions_file: Path | None = _flag(None, "BED of regions", SCANNED)
    exclude: tuple[str, ...] = _flag((), "Contigs to leave out, globs like '*_alt'; repeatable", SCANNED)
    min_contig: int = _flag(0, "Leave out contigs shorter than this", SCANNED, least=0)
    contig_alias: Path | None = _flag(None, "Table of name<TAB>alias for --regions", SCANNED)
    soft_mask: Literal["scan", "skip"] = _flag("scan", "Lower-case bases", SCANNED)
    ambiguous: Literal["skip", "zero"] = _flag(
        "skip", "skip windows with N, or zero the N and score them", SCANNED
    )  # fmt: skip
    calls_per_mb: float = _flag(20.0, "Budget of calls per scanned megabase", CALLS, least=0)
    min_score: float | None = _flag(None, "Call every locus of at least this score instead", CALLS, least=0, most=1)
    min_precision: float | None = _flag(
        None, "Call every locus of at least this estimated precision instead", CALLS, least=0, most=1
    )
    clade: str | None = _flag(None, "animal (default), nematode, insect, vertebrate, human or virus", CALLS)
    prevalence: float | None = _flag(None, "Known hairpins per Mb to expect, instead of --clade", CALLS)
    folder: Literal["hairpins", "viennarna"] | None = _flag(
        None, "What folds windows, where a model needs it", INPUT, "--fold-with", old=("--folder",)
    )
    known: Path | None = _flag(None, "FASTA of known precursors: adds homology to calls", INPUT)
    annotate: bool = _flag(False, "Rank calls by score and homology combined", CALLS, "--annotate")
    store: str | None = _flag(None, "Where scores are kept (default: OUTPUT.store)", STORE)
    rm_store: bool = _flag(False, "Remove the store when all is written", STORE, "--rm-store")
    fresh: bool = _flag(False, "Start over instead of resuming", STORE, "--fresh")
    batch: int | None = _flag(None, "Windows given to the devices at a time", SPEED, least=1)
    mini_batch: int | None = _flag(None, "Windows computed at once on a device (default: measured)", SPEED, least=1)
    part_windows: int | None = _flag(None, "Windows of one part, the unit of resuming", STORE, least=1)
    devices: int | None = _flag(None, "Use at most this many devices", SPEED)
    threads: int | None = _flag(None, "CPU cores to use (default: all)", SPEED, "-t", "--threads", least=1)
    precision: Literal["float32", "bfloat16"] | None = _flag(None, "Of the arithmetic (default: by device)", SPEED)
    hairpins: Literal["numba", "jax"] | None = _flag(
        None, "What computes stem-loops: cores or devices; no score depends on it", SPEED, "--recurrence",
        old=("--hairpins",),
    )  # fmt: skip

    def __post_init__(self) -> None:
        """Take text for paths, and one region for many; refuse what is out of range.

        Raises
        ------
        UsageError
            Naming the option.
        """
        for field in dataclasses.fields(self):
            kind, value = TYPES[field.name], getattr(self, field.name)
            if kind.is_path and value is not None:
                object.__setattr__(self, field.name, Path(value))
            elif kind.is_many:
                object.__setattr__(self, field.name, (value,) if isinstance(value, str) else tuple(value))
            elif kind.choices and value is not None and value not in kind.choices:
                raise UsageError(f"{flag_of(field.name).shown(field.name)} {value}: choose {', '.join(kind.choices)}")
            elif kind.is_number and value is not None:
                _check_range(field.name, value)
        if self.store is not None:
            object.__setattr__(self, "store", str(self.store))


@dataclass(frozen=True)
class Kind:
    """What the type of an option means."""

    is_path: bool
    is_many: bool
    is_number: bool
    choices: tuple[str, ...]


def _kind(hint: Any) -> Kind:
    inner = [part for part in get_args(hint) if part is not type(None)] if type(None) in get_args(hint) else [hint]
    choices = get_args(inner[0]) if str(inner[0]).startswith("typing.Literal") else ()
    many = str(inner[0]).startswith("tuple")
    return Kind(inner[0] is Path, many, inner[0] in (int, float), choices)


HINTS = get_type_hints(Options)
TYPES = {name: _kind(hint) for name, hint in HINTS.items()}
FIELDS = {field.name: field for field in dataclasses.fields(Options)}


def flag_of(name: str) -> Flag:
    """The flag of an option."""
    flag: Flag = FIELDS[name].metadata["flag"]
    return flag


def _check_range(name: str, value: float) -> None:
    flag = flag_of(name)
    if math.isnan(value):
        raise UsageError(f"{flag.shown(name)} {value}: must be a number")
    if not value >= flag.least:
        what = "must not be negative" if flag.least == 0 else f"must be at least {flag.least:g}"
        raise UsageError(f"{flag.shown(name)} {value}: {what}")
    if not value <= flag.most:
        raise UsageError(f"{flag.shown(name)} {value}: must be at most {flag.most:g}")


def check_choice(options: Options) -> None:
    """Refuse what no calls can be chosen by.

    Raises
    ------
    UsageError
        Naming the option.
    """
    from mirscan.calls.precision import known_per_megabase  # with NumPy, which `mirscan --help` does without

    known_per_megabase(options.clade, options.prevalence)
    if options.min_precision is not None:
        if not 0 < options.min_precision < 1:
            raise UsageError(f"--min-precision {options.min_precision:g}: must be above 0 and below 1")
        if options.min_score is not None:
            raise UsageError("--min-precision and --min-score: give one of them")
        if options.annotate:
            raise UsageError("--min-precision and --annotate: precision is estimated from the score alone")
