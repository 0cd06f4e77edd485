"""What the functions of the Python interface return."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from mirscan.commands.evaluate import table
from mirscan.errors import InputError, UsageError
from mirscan.evaluation.matching import Figures
from mirscan.formats import bed, fasta, gff3
from mirscan.paths import Paths
from mirscan.types import Call, ModelSpec, Plan

if TYPE_CHECKING:
    import pandas

PathLike = str | os.PathLike[str]


class Calls(Sequence[Call]):
    """Candidate loci of a scan, in the order of the genome: a sequence of `mirscan.types.Call`.

    Attributes
    ----------
    plan : Plan
        What decided the scores: genome, contigs, windows, model, weights.
    megabases : float
        Sequence that was scored.
    """

    def __init__(self, calls: Sequence[Call], plan: Plan, megabases: float) -> None:
        self._calls = tuple(calls)
        self.plan = plan
        self.megabases = megabases

    @overload
    def __getitem__(self, index: int) -> Call: ...
    @overload
    def __getitem__(self, index: slice) -> Calls: ...
    def __getitem__(self, index: int | slice) -> Call | Calls:
        if isinstance(index, slice):
            return Calls(self._calls[index], self.plan, self.megabases)
        return self._calls[index]

    def __len__(self) -> int:
        return len(self._calls)

    def __repr__(self) -> str:
        return f"<{len(self)} calls in {self.megabases:.3f} Mb of {self.plan.genome}>"

    def to_pandas(self) -> pandas.DataFrame:
        """A table with a row for each call and the fields of `mirscan.types.Call` as columns.

        Raises
        ------
        UsageError
            If pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UsageError("to_pandas: pandas is not installed; pip install 'mirscan[pandas]'") from None
        names = [field.name for field in fields(Call)]
        return pandas.DataFrame([[getattr(call, name) for name in names] for call in self], columns=names)

    def write(self, path: PathLike) -> None:
        """Write a file whose suffix says what it is: ``.bed``, ``.gff3`` or ``.fa``, each also with ``.gz``.

        Raises
        ------
        UsageError
            If the suffix is another.
        InputError
            If the file cannot be written.
        """
        target = Path(path)
        stem = target.name.lower().removesuffix(".gz")
        contigs = [(contig.name, contig.length) for contig in self.plan.contigs]
        writers: dict[str, Callable[[], None]] = {
            ".bed": lambda: bed.write_calls(target, self),
            ".gff3": lambda: gff3.write_calls(target, self, contigs),
            ".fa": lambda: fasta.write_fasta(target, self),
            ".fasta": lambda: fasta.write_fasta(target, self),
        }
        writer = writers.get(os.path.splitext(stem)[1])
        if writer is None:
            raise UsageError(f"{target}: the name must end in one of {' '.join(writers)}, or in one of these and .gz")
        Paths().writes("calls", target).look()
        with one_line():
            writer()


class Evaluation(Mapping[str, Figures]):
    """Figures of calls, as `mirscan evaluate` prints them: for contigs, for kinds, and for ``all`` together."""

    def __init__(self, figures: Mapping[str, Figures]) -> None:
        self._figures = dict(figures)

    def __getitem__(self, name: str) -> Figures:
        return self._figures[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._figures)

    def __len__(self) -> int:
        return len(self._figures)

    def __str__(self) -> str:
        return "\n".join(table(self._figures))


@dataclass(frozen=True)
class Model:
    """A model with its weights, compiled: a function of arrays.

    Attributes
    ----------
    spec : ModelSpec
        Its row in the table of models: window, inputs, what its score is.
    """

    spec: ModelSpec
    function: Callable[..., Any]

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        """Scores (float32, (rows,)) of a batch: ``spec.inputs`` gives the shape of a row of each input."""
        shapes = self.spec.inputs
        if len(inputs) != len(shapes) or any(np.shape(x)[1:] != s for x, s in zip(inputs, shapes, strict=True)):
            found = ", ".join(str(np.shape(x)) for x in inputs)
            wanted = ", ".join(f"(rows, {', '.join(map(str, shape))})" for shape in shapes)
            raise UsageError(f"model {self.spec.name!r} takes {wanted}, not {found or 'nothing'}")
        return np.asarray(self.function(*inputs))


class Windows(NamedTuple):
    """A batch of windows of a genome.

    Attributes
    ----------
    contig : (rows,) int64
        Number of the contig.
    start : (rows,) int64
        0-based, on the plus strand.
    minus : (rows,) bool
        Windows of the minus strand, which are reverse complemented.
    bases : (rows, window, 4) float32, or (rows, window) uint8
        One-hot in the order A, C, G, T; or codes 0 to 3, ambiguous 4.
    """

    contig: np.ndarray
    start: np.ndarray
    minus: np.ndarray
    bases: np.ndarray


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """What the file system refuses is an `InputError` with the file's name."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename or 'a file'}: {error.strerror or error}") from error
