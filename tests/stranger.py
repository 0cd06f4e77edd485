"""A stranger's folders and command lines, drawn at random, and what of theirs a command may touch.

Run as a program it is a server for tests that kill: each line on standard input is a command to run in a process of its
own, ``{"cwd", "argv", "seconds"}``, killed after that time; each line of output is its exit code.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from program import fasta, sequence

from mirscan import cli
from mirscan.checkpoints import weights
from mirscan.cluster import driver as batch
from mirscan.commands import bench, demo, score
from mirscan.errors import UsageError
from mirscan.files.atomic import append_line
from mirscan.files.folders import claim
from mirscan.files.kinds import DEMO, STORE, TRAINING, WEIGHTS, Kind
from mirscan.files.temporary import TEMPORARY
from mirscan.models.duplex import FOLDS
from mirscan.scanning import prepare, run
from mirscan.training import adapt
from mirscan.training import from_table as learn

FOLDERS = ["", "a", "b", "a/c"]
NAMES = [
    "g.fa", "h.fa", "t.tsv", "t.gff3", "c.bed", "n.tsv", "x.bw", "x.plus.bw", "x.run.json", "x.bedgraph", "x.tsv",
    "x.bw.store", "x.bw.adapted", "x.bw.store.deleting", "x.bw.spool", ".x.bw.part", "s", "w", "training", "weights",
    "state", "plan.json", "known", "parts", "scores", "SHA256SUMS", "about.json", "log.jsonl", "demo.fa",
    "demo.bw.store", "viennarna.npz", "notes.txt", "tree",
]  # fmt: skip
WITHIN = {
    "training": {"training": TRAINING, "training/best": WEIGHTS, "training/state": WEIGHTS, "weights": WEIGHTS},
    "demo": {"demo.bw.store": STORE},
}
"""Folders of ours in folders of ours."""
KINDS = {"store": STORE, "weights": WEIGHTS, "training": TRAINING, "demo": DEMO}
GENOME = fasta(sequence(600))
BASE = {
    "g.fa": GENOME,
    "h.fa": fasta(sequence(300, seed=1), "chr2"),
    "t.tsv": ("name\tsequence\tlabel\n" + "".join(f"s{n}\t{'ACGU' * 15}\t{n % 2}\n" for n in range(4))).encode(),
    "t.gff3": b"##gff-version 3\nchr1\t.\tpre_miRNA\t100\t180\t.\t+\t.\tID=a\n",
    "c.bed": b"chr1\t0\t300\ta\t0\t+\t0.5\n",
    "n.tsv": b"chr1\tone\n",
}  # fmt: skip
"""What a stranger has at hand: a genome, candidates, a table, known hairpins, calls, names."""
OUTPUTS = {"-o", "--bed", "--gff3", "--calls-fasta", "--curve", "--json"}
MADE = {"--store": "store", "--out": "demo"}


class Nothing:
    """A scorer that finds nothing, at no cost."""

    def __init__(self, *model: Any, rows: int, mini: int, devices: Any) -> None:
        self.rows = rows

    def submit(self, *inputs: np.ndarray) -> np.ndarray:
        return np.full(len(inputs[0]), 0.5, dtype=np.float32)


def fit(*arguments: Any, **options: Any) -> dict[str, Any]:
    """In place of a training: what it keeps, by the same calls."""
    recipe, folder = arguments[3:5]
    claim(folder, TRAINING)
    weights.recover(folder / "state")
    append_line(folder / "log.jsonl", "{}")
    for name in ("best", "state"):
        weights.save(folder / name, {"x": np.ones(3)}, {"recipe": asdict(recipe), "done": 1, "best": 0.0})
    return {"x": np.ones(3)}


def no_cluster(address: Any) -> Any:
    raise UsageError("--address: no cluster here")


def without_models(patch: Callable[[Any, str, Any], None]) -> None:
    """Leave out what computes; everything that touches a file stays."""
    refitted = adapt.Refit([{"x": np.ones(3)}] * FOLDS, 0.0, 1.0, True)
    patch(run, "Scorer", Nothing)
    patch(prepare, "load_model", lambda *name, **precision: (None, None))
    patch(score, "load_model", lambda *name, **precision: (None, None))
    patch(score, "score_molecules", lambda spec, model, molecules, devices: np.zeros(len(molecules.lengths)))
    patch(learn, "fit", fit)
    patch(adapt, "LEAST", 0)
    patch(adapt, "_remembered", lambda source: None)
    patch(adapt, "_findings", lambda tree: None)
    patch(adapt, "look", lambda *arguments: (None, None))
    patch(adapt, "refit", lambda *arguments: refitted)
    patch(demo, "CONTIGS", {"demo1": 4000})
    patch(demo, "GAP", ("demo1", 10, 20))
    patch(demo, "SOFT_MASKED", ("demo1", 30, 40))
    patch(batch, "_cluster", no_cluster)
    patch(bench, "bench", lambda *arguments, **options: {})
    patch(bench, "table", lambda result: "")


def call(argv: list[str]) -> int:
    """Run a command in this process; its exit code."""
    sys.argv = ["mirscan", *argv]
    logging.root.handlers = []
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())), contextlib.redirect_stderr(io.StringIO()):
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


# ---------------------------------------------------------------------- what is drawn
PATHS = st.builds(lambda folder, name: os.path.join(folder, name), st.sampled_from(FOLDERS), st.sampled_from(NAMES))
ODD = st.sampled_from([".", "..", "a", "b", "a/c", "a/..", "./a/../b", "../home", "a/c/../../g.fa", "new", "new/er"])
ANY = PATHS | ODD | st.sampled_from(sorted(BASE))
LAID = ["text", "json", "folder", "hard", "soft", "dangling", "linked", *KINDS]
ENTRIES = st.lists(st.tuples(st.sampled_from(LAID), PATHS, ANY), max_size=8)
SOURCES = {
    "genome": "g.fa", "adapted": "g.fa", "plan": "g.fa", "batch": "g.fa", "export": "../scanned", "merge": "../scanned",
    "score": "h.fa", "fold": "g.fa", "evaluate": "c.bed", "train": "t.tsv", "adapt": "g.fa", "demo": "demo",
    "bench": "x.json",
}  # fmt: skip
"""What each command is usually given first."""


@st.composite
def cases(draw: Any) -> tuple[list[tuple[str, str, str]], list[list[str]]]:
    """What lies in a home, and one or two command lines."""
    entries = draw(ENTRIES)
    there = [name for _, name, _ in entries]
    return entries, [draw(commands(there)) for _ in range(draw(st.integers(1, 2)))]


@st.composite
def commands(draw: Any, there: list[str]) -> list[str]:
    """A command line of any command, with paths that point anywhere."""
    said: list[str] = []

    def path(usual: str) -> str:
        among = draw(st.sampled_from([usual] * 6 + ["any", "said", "said", "there"]))
        names = {"said": said, "there": there}.get(among)
        said.append(draw(ANY) if among == "any" or names == [] else draw(st.sampled_from(names)) if names else usual)
        return said[-1]

    def track() -> str:
        """One that ends as a track does, nearly always."""
        name = path("x.bw")
        return name if name.endswith((".bw", ".bedgraph")) or not draw(st.integers(0, 5)) else f"{name}.bw"

    def some(**options: Any) -> list[str]:
        found = []
        for name, usual in options.items():
            if draw(st.booleans()):
                found += [f"--{name.replace('_', '-')}", path(usual)]
        return found

    name = draw(st.sampled_from(sorted(SOURCES) + ["genome"] * 4))
    source = path(SOURCES[name])  # first: what is written later may be the same
    model = draw(st.sampled_from([["--model", "mire2e-tiny", "--weights", path("../tiny")], []]))
    reads = some(regions_file="c.bed", contig_alias="n.tsv")
    flags = [flag for flag in ("--per-strand", "--fresh", "--rm-store") if draw(st.booleans())]
    calls = some(bed="y.bed", gff3="y.gff3", calls_fasta="y.fa")
    per_strand = flags[: flags[:1] == ["--per-strand"]]
    match name:
        case "genome":
            return ["genome", source, "-o", track(), *model, *flags, *calls, *reads, *some(store="s")]
        case "adapted":
            return ["genome", source, "-o", track(), "--adapt", *flags, *some(store="s", weights="../w")]
        case "plan":
            return ["plan", source, "--store", path("s"), *model, *reads]
        case "batch":
            rows = [[source, track(), path("x.bed")], [path("h.fa"), track(), path("y.bed")]]
            table = "\n".join("\t".join(row) for row in [["genome", "output", "bed"], *rows])
            return ["batch", "--manifest", "m.tsv", *model, *flags, "=m.tsv", table]
        case "export" | "merge":
            return [name, source, *some(genome="g.fa"), "-o", track(), *per_strand, *calls]
        case "score":
            return ["score", source, "--model", "mire2e-tiny", "--weights", path("../tiny"), "-o", path("x.tsv")]
        case "fold":
            return ["fold", source, "-o", track(), *per_strand]
        case "evaluate":
            return ["evaluate", source, path("t.gff3"), "--megabases", "1", "--curve", path("x.tsv")]
        case "train":
            return ["train", "deepmir-seq", "--data", source, "-o", path("run"), "--epochs", "1"]
        case "adapt":
            return ["adapt", source, *some(weights="../w"), "-o", path("w")]
        case "demo":
            return ["demo", "--out", source, "--model", "mire2e-tiny", "--weights", "../tiny"]
    return ["bench", "--json", source]


# ---------------------------------------------------------------------- the folders, and what may change in them
@dataclass
class Home:
    """A stranger's home, ``home`` in a folder that also has what commands read from outside: ``tiny``, ``scanned``."""

    root: Path
    templates: dict[str, Path]
    ours: dict[str, Kind] = field(default_factory=dict)
    """Real paths of the folders that mirscan made, or that a command line before named and that were made then."""

    @property
    def home(self) -> Path:
        return self.root / "home"

    def build(self, entries: list[tuple[str, str, str]]) -> None:
        """Lay everything out."""
        self.home.mkdir(parents=True)
        for name in FOLDERS[1:]:
            (self.home / name).mkdir()
        for name, data in BASE.items():
            (self.home / name).write_bytes(data)
        for name, template in (("tiny", "weights"), ("scanned", "store"), ("w", "weights")):
            shutil.copytree(self.templates[template], self.root / name)
            self.ours[str(self.root / name)] = KINDS[template]
        for what, name, other in entries:
            with contextlib.suppress(OSError):  # something is there already
                self._make(what, self.home / name, self.home / other)

    def _make(self, what: str, path: Path, other: Path) -> None:
        if os.path.lexists(path):
            raise FileExistsError(path)
        match what:
            case "text":
                path.write_text(f"dear {path}")
            case "json":
                path.write_text(json.dumps({"format_version": 2, "outputs": ["x.bw"], "model": "m"}))
            case "folder":
                path.mkdir()
                for name in ("notes.txt", "0.json", "plan.json"):
                    (path / name).write_text(f"dear {path}/{name}")
            case "hard":
                os.link(other, path)
            case "soft":
                path.symlink_to(os.path.relpath(other, path.parent))
            case "dangling":
                path.symlink_to("nowhere")
            case "linked":  # a store of ours, one folder of which leads to a folder of the user's
                users = path.with_name(f"{path.name}.users")
                users.mkdir()
                (users / "0.json").write_text(f"dear {users}/0.json")
                shutil.copytree(self.templates["store"], path)
                shutil.rmtree(path / "parts")
                (path / "parts").symlink_to(users)
                self.ours[str(path)] = STORE
            case _:
                shutil.copytree(self.templates[what], path)
                (path / "notes.txt").write_text(f"dear {path}/notes.txt")
                self.ours[str(path)] = KINDS[what]
                for inside, kind in WITHIN.get(what, {}).items():
                    self.ours[str(path / inside)] = kind

    def state(self) -> dict[str, bytes]:
        """Every file below the root, and where links lead."""
        return {
            str(path): os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_symlink() or path.is_file()
        }

    def prepare(self, argv: list[str]) -> list[str]:
        """Write the manifest that a command line carries with it."""
        if "=m.tsv" not in argv:
            return argv
        at = argv.index("=m.tsv")
        (self.home / "m.tsv").unlink(missing_ok=True)
        (self.home / "m.tsv").write_text(argv[at + 1])
        return argv[:at]

    def check(self, before: dict[str, bytes], argv: list[str]) -> None:
        """Everything that was there is there, but outputs that were named and what belongs to them.

        What a killed command left under a temporary name is no file of the stranger's.
        """
        may = self._may_change(argv)
        after = self.state()
        for name, data in before.items():
            if any(TEMPORARY.fullmatch(part) for part in Path(name).parts):
                continue
            assert after.get(name) == data or may(name), f"{argv}: {name} is not what it was"

    def learned(self, argv: list[str]) -> None:
        """Folders that exist now and that this command may have made are ours from now on."""
        for folder, kind in self._folders(argv).items():
            if folder not in self.ours and os.path.isdir(folder) and kind.is_ours(Path(folder)):
                self.ours[folder] = kind
        for folder in [name for name in self.ours if not os.path.isdir(name)]:
            del self.ours[folder]

    def _real(self, path: str) -> str:
        return os.path.realpath(self.home / path)

    def _outputs(self, argv: list[str]) -> list[str]:
        """Files that a command line names as outputs."""
        if argv[0] in ("train", "adapt", "demo", "plan"):
            return []
        if argv[0] == "batch":  # nothing is scanned
            return []
        return [argv[at + 1] for at, word in enumerate(argv) if word in OUTPUTS]

    def _folders(self, argv: list[str]) -> dict[str, Kind]:
        """Folders that a command line names, or that follow from its output."""
        found: dict[str, Kind] = {}
        for at, word in enumerate(argv):
            if word in MADE:
                found[self._real(argv[at + 1])] = KINDS[MADE[word]]
        if argv[0] == "demo":
            found[os.path.join(self._real(argv[2]), "demo.bw.store")] = STORE
        if argv[0] in ("train", "adapt"):
            main = argv[argv.index("-o") + 1]
            found[self._real(main)] = TRAINING if argv[0] == "train" else WEIGHTS
            if argv[0] == "train":
                found |= {self._real(os.path.join(main, name)): kind for name, kind in WITHIN["training"].items()}
        if argv[0] in ("genome", "batch"):
            mains = [argv[argv.index("-o") + 1]] if "-o" in argv else []
            if argv[0] == "batch":
                lines = (self.home / "m.tsv").read_text().splitlines()
                mains = [line.split("\t")[1] for line in lines[1:]]
            for main in mains:
                if "--store" not in argv:
                    found[self._real(f"{main}.store")] = STORE
                if "--adapt" in argv:
                    found[self._real(f"{main}.adapted")] = WEIGHTS
        if argv[0] in ("export", "merge"):
            found[self._real(argv[1])] = STORE  # what interrupted parts left in it is dropped
        return found

    def _may_change(self, argv: list[str]) -> Callable[[str], bool]:
        outputs = self._outputs(argv)
        named = {self._real(path) for path in outputs} | {os.path.abspath(self.home / path) for path in outputs}
        reads = {self._real(word) for word, before in zip(argv[1:], argv, strict=False) if before not in OUTPUTS}
        if argv[0] in ("genome", "export", "merge", "fold"):
            main = Path(os.path.abspath(self.home / argv[argv.index("-o") + 1]))
            stem = main.name.removesuffix(".gz").rsplit(".", 1)
            if argv[0] == "genome":
                named.add(str(main.with_name(f"{stem[0]}.run.json")))
            if "--per-strand" in argv:
                named |= {str(main.with_name(f"{stem[0]}.{strand}.{stem[-1]}")) for strand in ("plus", "minus")}
        folders = {name: kind for name, kind in self._folders(argv).items() if self.ours.get(name) is kind}

        def may(name: str) -> bool:
            if name in named - reads:
                return True
            for folder, kind in folders.items():
                inside = os.path.relpath(name, folder)
                if kind.files.fullmatch(inside) or inside == kind.mark:
                    return True
            return False

        return may


def templates(folder: Path, tiny: Path) -> dict[str, Path]:
    """A store, weights, a training and a demo, as mirscan makes them."""
    (folder / "g.fa").write_bytes(GENOME)
    (folder / "t.tsv").write_bytes(BASE["t.tsv"])
    model = ["--model", "mire2e-tiny", "--weights", str(tiny)]
    here = os.getcwd()
    os.chdir(folder)
    try:
        for argv in (
            ["genome", "g.fa", "-o", "x.bw", *model, "--store", "store"],
            ["train", "deepmir-seq", "--data", "t.tsv", "-o", "training", "--epochs", "1"],
            ["demo", "--out", "demo", *model],
        ):
            assert call(argv) == 0, argv
    finally:
        os.chdir(here)
    return {"store": folder / "store", "training": folder / "training", "demo": folder / "demo", "weights": tiny}


def serve() -> None:
    """See the module."""
    without_models(setattr)
    for line in sys.stdin:
        asked = json.loads(line)
        began, child = time.monotonic(), os.fork()
        if not child:
            os.chdir(asked["cwd"])
            sys.stdin = None  # type: ignore[assignment]
            os._exit(call(asked["argv"]))
        print(json.dumps(_end(child, began, asked["seconds"])), flush=True)


def _end(child: int, began: float, seconds: float | None) -> int:
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if seconds is not None and time.monotonic() - began > seconds:
            os.kill(child, signal.SIGKILL)
            seconds = None
        time.sleep(0.001)


if __name__ == "__main__":
    serve()
