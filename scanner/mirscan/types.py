"""The words of the house as frozen dataclasses, and the errors a user can cause.

Coordinates are 0-based and half-open everywhere; 1-based numbers exist only in GFF3 files and ``--regions``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mirscan.errors import InputError, UsageError

if TYPE_CHECKING:  # loaded where arrays are made: `mirscan --help` needs the errors alone
    import numpy as np

Strand = Literal["+", "-"]
STRANDS: tuple[Strand, Strand] = ("+", "-")
"""Order of the strand axis of a score store."""


@dataclasses.dataclass(frozen=True)
class Contig:
    """One FASTA record.

    Parameters
    ----------
    name : str
        First token of the header.
    length : int
        Bases.
    ambiguous : int
        Bases that are not A, C, G, T or U.
    masked : int
        Soft-masked (lower-case) bases.
    """

    name: str
    length: int
    ambiguous: int = 0
    masked: int = 0


@dataclasses.dataclass(frozen=True)
class Grid:
    """Windows of ``window`` bases every ``step`` bases, the last one anchored at the contig's end.

    Window ``k`` of a contig starts at ``k * step``; when that grid leaves a tail of uncovered bases, one more window
    is anchored at ``length - window``. A contig shorter than a window has none.
    """

    window: int = 100
    step: int = 20

    def __post_init__(self) -> None:
        if self.window < 1 or self.step < 1 or self.step > self.window:
            raise UsageError(f"window {self.window}, step {self.step}: need 1 <= step <= window")

    def count(self, length: int) -> int:
        """Number of windows of a contig of ``length`` bases."""
        return 0 if length < self.window else -(-(length - self.window) // self.step) + 1

    def starts(self, length: int, first: int, count: int) -> np.ndarray:
        """Start (int64) of windows ``first .. first + count`` of a contig of ``length`` bases."""
        import numpy as np

        return np.minimum(np.arange(first, first + count, dtype=np.int64) * self.step, length - self.window)

    def intervals(self, length: int, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Track intervals ``(start, end)`` (int64) of those windows: ``step`` bases at each window's centre.

        They never overlap: the anchored tail window draws only the bases after the interval before it.
        """
        import numpy as np

        shift = (self.window - self.step) // 2
        end = self.starts(length, first, count) + shift + self.step
        start = np.arange(first, first + count, dtype=np.int64) * self.step + shift
        return start, end

    def inside(self, length: int, start: int, end: int) -> tuple[int, int]:
        """``(first, count)`` of the grid windows that lie wholly inside ``[start, end)``."""
        total = self.count(length)
        first = -(-start // self.step)
        stop = total if end >= length else (end - self.window) // self.step + 1
        return first, max(0, stop - first) if start <= length - self.window else 0


@dataclasses.dataclass(frozen=True)
class Segment:
    """``count`` consecutive grid windows of contig number ``contig``, from window ``first`` on."""

    contig: int
    first: int
    count: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that decides a score, fixed before the first window is scanned.

    The windows of all ``segments`` in a row are the store's window axis; ``part_windows`` of them are one part.
    """

    genome: str
    genome_digest: str
    contigs: tuple[Contig, ...]
    segments: tuple[Segment, ...]
    grid: Grid
    model: str
    weights_digest: str
    part_windows: int
    ambiguous: Literal["skip", "zero"]
    soft_mask: Literal["scan", "skip"]
    backend: str
    precision: Literal["float32", "bfloat16"]
    compiled_rows: int
    selection: dict[str, Any]
    """Options that chose the segments (regions, exclude, min_contig), for the record."""
    format_version: int = 2
    known_digest: str = ""
    """Of the known precursors that hairpins were compared with; empty without."""
    folder: str = ""
    """What folded the windows of a model that needs structures: ``hairpins`` or ``viennarna``; else empty."""
    mini_batch: int = 0
    """Rows computed at once on a device, which the last bits of a score depend on; 0 in stores that are older than this
    field: the model's own."""

    @cached_property
    def offsets(self) -> np.ndarray:
        """Place (int64) of each segment's first window on the window axis, and the total at the end."""
        import numpy as np

        return np.concatenate([[0], np.cumsum([s.count for s in self.segments], dtype=np.int64)]).astype(np.int64)

    @property
    def windows(self) -> int:
        """Length of the window axis."""
        return int(self.offsets[-1])

    @property
    def parts(self) -> int:
        """Number of parts."""
        return -(-self.windows // self.part_windows)

    def bounds(self, part: int) -> tuple[int, int]:
        """``[start, stop)`` of a part on the window axis."""
        return part * self.part_windows, min((part + 1) * self.part_windows, self.windows)

    def pieces(self, start: int, stop: int) -> Iterator[Segment]:
        """The segments, cut to ``[start, stop)`` of the window axis, in order."""
        index = int(self.offsets.searchsorted(start, side="right")) - 1
        while start < stop:
            segment, offset = self.segments[index], int(self.offsets[index])
            count = min(stop, offset + segment.count) - start
            if count > 0:
                yield Segment(segment.contig, segment.first + start - offset, count)
                start += count
            index += 1

    def to_json(self) -> str:
        """One JSON document; `from_json` gives an equal plan."""
        document = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        document["contigs"] = [(c.name, c.length, c.ambiguous, c.masked) for c in self.contigs]
        document["segments"] = [(s.contig, s.first, s.count) for s in self.segments]
        document["grid"] = dataclasses.asdict(self.grid)
        # a line a field: readable, and many times faster than indenting the lists of a genome in 100,000 pieces
        lines = (f" {json.dumps(name)}: {json.dumps(value)}" for name, value in document.items())
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` wrote.

        Raises
        ------
        InputError
            If the document is no plan, or one of another format version.
        """
        try:
            document = json.loads(text)
            version = document["format_version"]
            if version != cls.format_version:
                raise InputError(f"the store's plan has format {version}, this mirscan reads {cls.format_version}")
            document["contigs"] = tuple(Contig(*c) for c in document["contigs"])
            document["segments"] = tuple(Segment(*s) for s in document["segments"])
            document["grid"] = Grid(**document["grid"])
            return cls(**document)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"the store's plan cannot be read ({error}); use --fresh to start over") from error

    def difference(self, other: Plan) -> str | None:
        """The first field in which two plans differ, as one readable phrase; None when scores would be equal."""
        # these last: they follow from other fields, which say more
        follow = ("compiled_rows", "contigs", "segments")
        for field in sorted(dataclasses.fields(self), key=lambda field: field.name in follow):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.name != "genome" and mine != theirs:
                shown = "" if field.name in ("contigs", "segments") else f": {mine!r} there, {theirs!r} now"
                return field.name.replace("_", " ") + shown
        return None


@dataclasses.dataclass(frozen=True)
class Hairpin:
    """A stem-loop: ``[start, end)`` on a strand, its dot-bracket (5' to 3' on that strand), energy in kcal/mol."""

    contig: str
    start: int
    end: int
    strand: Strand
    structure: str
    energy: float


@dataclasses.dataclass(frozen=True)
class Call:
    """A candidate precursor locus, as written to BED, GFF3 and FASTA.

    ``score`` in [0, 1] ranks calls; ``sequence`` and ``structure`` are 5' to 3' on the call's strand.
    """

    contig: str
    start: int
    end: int
    strand: Strand
    score: float
    name: str
    energy: float | None = None
    structure: str | None = None
    sequence: str | None = None
    windows: int = 1
    """Merged windows above the threshold."""
    precision: tuple[float, float, float] | None = None
    """Estimated share of calls of this score that are known hairpins, and its 95 % interval (`calls.precision`)."""
    flags: tuple[str, ...] | None = None
    """What to beware of (`mirscan.calls.flags`); None where nobody looked."""
    homology: float | None = None
    """Similarity to the best known precursor, in bases; None where none was given."""
    known: str | None = None
    """Name of that precursor; None where the hairpin is like none."""
    annotation: float | None = None
    """Score and homology combined, in [0, 1]: ranks calls where it is asked for (`mirscan.calls.annotation`)."""


class Molecules(NamedTuple):
    """Candidate precursors, or windows, one row each, of which the inputs of a model are made.

    Attributes
    ----------
    codes : (B, L) uint8
        5' to 3' from column 0 on; `mirscan.kernels.bases.ABSENT` beyond the end.
    lengths : (B,) int64
        Bases of each.
    partners : (B, L) int16
        Column of the base that each base pairs with; -1 where it is unpaired, and everywhere where nothing was folded.
    energies : (B,) float32
        kcal/mol of that structure; 0 where nothing was folded.
    """

    codes: np.ndarray
    lengths: np.ndarray
    partners: np.ndarray
    energies: np.ndarray

    def take(self, rows: np.ndarray | slice) -> Molecules:
        """Some of the rows: an index array, a mask or a slice."""
        return Molecules(*(column[rows] for column in self))


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """One row of the model table: a variant is a row, not a file."""

    name: str
    """Family, and variant after a dash where there are several."""
    build: Callable[..., Any]
    """``rngs -> flax.nnx.Module``; the module maps uint8 codes (rows, window) to logits or features."""
    score: Callable[[Any], Any]
    """Module output -> float32 (rows,) in [0, 1], traced inside the one jit of inference."""
    summary: str
    reference: str
    unit: Literal["window", "hairpin"] = "window"
    task: Literal["precursor", "mirtron"] = "precursor"
    needs: frozenset[str] = frozenset()
    """What `encode` reads beside the bases: ``fold`` for partners and energies."""
    encode: Callable[[Molecules], tuple[np.ndarray, ...]] | None = None
    """Molecules to the module's inputs, a row each; None where a window's codes are the input."""
    window: int = 100
    step: int = 20
    shapes: tuple[tuple[int, ...], ...] = ()
    """Shape of one row of each input; one row of ``window`` codes where it is empty."""
    wide: bool = False
    """Whether its time goes into matrix products wide enough that a CPU's bfloat16 instructions pay."""
    neighbour: float = 0.0
    """Of a hairpin model: what a precursor nearby multiplies the odds of a hairpin by; 0 leaves neighbours out."""
    copied: float = 0.0
    """Of a hairpin model: what a hairpin's log-odds lose if all of it is copied nearby, as in tandem repeats."""
    folds: int = 0
    """Of a hairpin model adapted to a genome: parts of the genome that have last layers of their own. The module's
    third input is then each hairpin's fold (uint8)."""
    mini_batch: int = 16
    """Windows computed at once on a CPU, chosen so that activations stay in the core's L2 cache."""
    stages: Mapping[str, Callable[[Any, Any], Any]] = dataclasses.field(default_factory=dict)
    """Parts of the module that `mirscan bench` times alone: name to ``(module, codes) -> output``."""

    @property
    def inputs(self) -> tuple[tuple[int, ...], ...]:
        """Shape of one row of each of the module's inputs."""
        return self.shapes or ((self.window,),)
