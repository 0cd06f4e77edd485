"""What tests of the command line share: a genome, the program in this process, a scorer that costs nothing."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirscan import cli

PROGRAM = Path(sys.executable).with_name("mirscan")
MULTIPLIERS = np.random.default_rng(0).integers(1, 1 << 20, 100)
LENGTH = 3000


def sequence(length: int = LENGTH, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def fasta(text: str, name: str = "chr1", width: int = 60) -> bytes:
    lines = (text[start : start + width] for start in range(0, len(text), width))
    return f">{name} a genome\n".encode() + "\n".join(lines).encode() + b"\n"


GOOD = fasta(sequence())


class Double:
    """A scorer of constant cost in place of the model's: its score is a checksum of the window."""

    def __init__(self, *model: Any, rows: int, mini: int, devices: Any) -> None:
        self.rows = rows

    def submit(self, codes: np.ndarray) -> np.ndarray:
        return ((codes.astype(np.int64) @ MULTIPLIERS) % 65521 / 65521).astype(np.float32)


class Place:
    """Folders for input and output, and the program run in this process."""

    def __init__(self, folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self.folder, self.weights = folder, weights
        self.inputs, self.outputs = folder / "in", folder / "out"
        self.inputs.mkdir()
        self.outputs.mkdir()
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def write(self, data: bytes, name: str = "g.fa") -> str:
        (self.inputs / name).write_bytes(data)
        return str(self.inputs / name)

    def main(self, *arguments: object) -> tuple[int, str, list[str]]:
        """Exit code, standard output, and the lines of standard error."""
        self._monkeypatch.setattr(sys, "argv", ["mirscan", *map(str, arguments)])
        self._monkeypatch.setattr(logging.root, "handlers", [])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = self._capsys.readouterr()
        return end.value.code or 0, out, err.splitlines()

    def genome(self, source: str, *options: object, output: str = "x.bw") -> tuple[int, str, list[str]]:
        model = ("--model", "mire2e-tiny", "--weights", self.weights)
        return self.main("genome", source, "-o", self.outputs / output, *model, *options)

    def written(self) -> list[str]:
        return sorted(path.relative_to(self.outputs).as_posix() for path in self.outputs.rglob("*"))


def assert_one_line(lines: list[str], message: str) -> None:
    """The last line is the error, and every line before is a line of the log."""
    assert message in lines[-1]
    assert all(line.startswith("mirscan: ") for line in lines)
    assert len([line for line in lines if message in line]) == 1
