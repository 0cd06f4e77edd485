"""Batches: what waits and what failed, manifests, a cluster whose workers and nodes die (mirscan.cluster)."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirscan import cli
from mirscan.cluster import driver as batch
from mirscan.cluster.driver import scan_batch
from mirscan.cluster.manifest import read_manifest
from mirscan.cluster.queue import PartQueue, Slot, most_wanting, slots
from mirscan.cluster.runs import Worker, runs_of
from mirscan.errors import IncompleteError, InputError, Stop, Stopped, UsageError
from mirscan.scanning.loop import Progress
from mirscan.scanning.options import Options
from mirscan.scanning.run import scan_genome
from mirscan.store import ScoreStore

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
PARTS = 6


def write_genome(path: Path, seed: int = 0, bases: int = 5800) -> Path:
    """A genome of two contigs, `PARTS` parts of 100 windows."""
    random = np.random.default_rng(seed)
    letters = ["".join(random.choice(list("ACGT"), bases)) for _ in range(2)]
    path.write_text("".join(f">chr{k}\n{text}\n" for k, text in enumerate(letters)))
    return path


# ---------------------------------------------------------------- without a cluster


def test_parts_are_handed_out_in_order_and_the_failed_ones_behind_the_others() -> None:
    queue = PartQueue(attempts=2)
    queue.add(0, [3, 4])
    queue.add(7, range(2))
    assert (queue.waiting(0), queue.waiting(7), queue.waiting(1)) == (2, 2, 0)
    assert queue.take(0) == [3]
    queue.failed(0, [3], "first")
    assert [queue.take(0), queue.take(0), queue.take(0), queue.take(1)] == [[4], [3], [], []]
    assert not queue.given_up
    queue.failed(0, [3], "second")
    assert queue.given_up == {(0, 3): "second"}
    assert queue.take(0) == []
    assert queue.take(7, most=5) == [0, 1]
    queue.failed(7, [1], "x")  # a failure of one run is none of another
    assert queue.take(7) == [1]


def test_a_part_has_one_attempt_where_one_is_allowed() -> None:
    queue = PartQueue(attempts=1)
    queue.add(0, [0])
    queue.failed(0, queue.take(0), "x")
    assert queue.given_up == {(0, 0): "x"}
    assert not queue.waiting(0)


def test_parts_that_failed_together_are_tried_alone_before_one_is_blamed() -> None:
    queue = PartQueue(attempts=1)
    queue.add(0, range(6))
    assert queue.take(0, most=3) == [0, 1, 2]
    queue.failed(0, [1, 2], "one of them")  # 0 is done
    assert not queue.given_up
    assert [queue.take(0, most=4) for _ in range(4)] == [[3, 4, 5], [1], [2], []]
    queue.failed(0, [2], "this one")
    assert queue.given_up == {(0, 2): "this one"}
    queue.failed(0, [3, 4, 5], "again")
    assert queue.take(0, most=3) == [3]


def node(name: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeID": name, "Alive": alive, "Resources": {"memory": 1e9, **resources}}


def test_slots() -> None:
    cpu, small, head = node("b", CPU=8.0), node("a", CPU=2.0), node("c", CPU=0.0)
    gpu, tpu = node("g", CPU=16.0, GPU=2.0), node("t", CPU=4.0, TPU=8.0)
    assert slots([cpu, small, head]) == [Slot("a", 0, "CPU", 2, 2), Slot("b", 0, "CPU", 8, 8)]
    assert slots([cpu, small], threads=4) == [Slot("a", 0, "CPU", 2, 2), Slot("b", 0, "CPU", 4, 4)]
    assert slots([cpu, gpu, tpu]) == [Slot("g", 0, "GPU", 1, 8), Slot("g", 1, "GPU", 1, 8)]
    assert slots([gpu], threads=3) == [Slot("g", 0, "GPU", 1, 3), Slot("g", 1, "GPU", 1, 3)]
    assert slots([cpu, tpu]) == [Slot("t", 0, "TPU", 8, 4)]
    assert slots([cpu, gpu], kind="CPU") == [Slot("b", 0, "CPU", 8, 8), Slot("g", 0, "CPU", 16, 16)]
    assert slots([node("g", alive=False, GPU=1.0), small]) == [Slot("a", 0, "CPU", 2, 2)]
    assert slots([head]) == []


def test_an_idle_worker_goes_where_most_is_to_be_done() -> None:
    assert most_wanting({}) is None
    assert most_wanting({0: (None, 1), 1: (None, 0), 2: (50, 1)}) == 1  # nobody has looked at it
    assert most_wanting({0: (None, 1), 1: (7, 2), 2: (6, 1)}) == 2  # three parts a worker, with one more
    assert most_wanting({0: (None, 2), 1: (None, 1), 2: (1, 1)}) == 1  # what is left of 2 its own worker does
    assert most_wanting({0: (0, 0), 1: (2, 2)}) is None


def test_a_manifest(tmp_path: Path) -> None:
    genome = write_genome(tmp_path / "g.fa")
    text = f"# two\noutput\tgenome\tbed\n\n{tmp_path}/1.bw\t{genome}\t\n{tmp_path}/2.bw\t{genome}\t{tmp_path}/2.bed\n"
    (tmp_path / "runs.tsv").write_text(text)
    assert read_manifest(tmp_path / "runs.tsv") == [
        {"genome": str(genome), "output": f"{tmp_path}/1.bw"},
        {"genome": str(genome), "output": f"{tmp_path}/2.bw", "bed": f"{tmp_path}/2.bed"},
    ]
    one, two = runs_of(None, tmp_path / "runs.tsv", Options(step=10))
    assert one == (str(genome), Options(output=tmp_path / "1.bw", step=10))
    assert two == (str(genome), Options(output=tmp_path / "2.bw", bed=tmp_path / "2.bed", step=10))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no row"),
        ("# nothing\n\n", "no row"),
        ("genome\toutput\n", "no genome below the header"),
        ("genome output\n", ":1: column 'genome'"),
        ("# x\ngenome\n", ":2: column 'output'"),
        ("genome\toutput\tbde\n", ":1: column 'bde'"),
        ("genome\toutput\toutput\n", ":1: column 'output'"),
        ("genome\toutput\n\nGENOME\n", ":3: 1 columns, the header has 2"),
        ("genome\toutput\nGENOME\tx.bw\ty.bw\n", ":2: 3 columns"),
        ("genome\toutput\nGENOME\t \n", ":2: no output"),
        ("genome\toutput\n\tx.bw\n", ":2: no genome"),
        ("genome\toutput\nGENOME\tx.bw\nnone.fa\ty.bw\n", ":3: none.fa: no such file"),
        ("genome\toutput\nGENOME\tx.bw\nGENOME\t./x.bw\n", ":3: ./x.bw is already written by line 2"),
        ("genome\toutput\tstore\nGENOME\tx.bw\tgs://s\nGENOME\ty.bw\tgs://s\n", ":3: gs://s is already written"),
    ],
)
def test_a_bad_manifest(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "runs.tsv"
    path.write_text(text.replace("GENOME", str(write_genome(tmp_path / "g.fa"))))
    with pytest.raises(InputError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(str(path))
    assert complaint in str(caught.value)


def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.tsv: No such file"):
        read_manifest(tmp_path / "none.tsv")
    (tmp_path / "x").write_bytes(b"\xff\xfe\0")
    with pytest.raises(InputError, match="no text"):
        read_manifest(tmp_path / "x")


def test_what_is_asked_of_one_genome_and_of_many() -> None:
    assert runs_of(Path("g.fa"), None, Options(output=Path("x.bw"))) == [("g.fa", Options(output=Path("x.bw")))]
    for genome, manifest in ((None, None), (Path("g.fa"), Path("runs.tsv"))):
        with pytest.raises(UsageError, match="give a genome and -o, or --manifest"):
            runs_of(genome, manifest, Options())
    for options in (Options(output=Path("x.bw")), Options(gff3=Path("x.gff3")), Options(store="x")):
        with pytest.raises(UsageError, match=r"runs\.tsv"):
            runs_of(None, Path("runs.tsv"), options)


@pytest.mark.parametrize(
    ("genome", "changes", "arguments", "complaint"),
    [
        ("-", {}, {}, "must be a file"),
        ("", {"output": None}, {}, "--output"),
        ("", {"adapt": True}, {}, "run `mirscan adapt` first"),
        ("", {"store": "memory://x"}, {}, "workers do not share memory"),
        ("", {"part_windows": 0}, {}, "--part-windows 0"),
        ("", {}, {"attempts": 0}, "--attempts 0"),
        ("", {}, {"workers": -1}, "--workers -1"),
        ("", {}, {"timeout": 0.0}, "--timeout 0"),
    ],
)
def test_what_is_refused_before_ray_is_asked(
    tmp_path: Path, tiny_weights: Path, genome: str, changes: dict[str, Any], arguments: dict[str, Any], complaint: str
) -> None:
    asked: dict[str, Any] = {"output": tmp_path / "x.bw", "model": "mire2e-tiny", "weights": tiny_weights, **changes}
    path = genome or str(write_genome(tmp_path / "g.fa"))
    with pytest.raises(UsageError, match=complaint):
        scan_batch([(path, Options(**asked))], address="127.0.0.1:1", **arguments)


def test_without_ray(tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    asked = Options(output=tmp_path / "x.bw", model="mire2e-tiny", weights=tiny_weights)
    with pytest.raises(UsageError, match=r"pip install 'mirscan\[batch\]'"):
        scan_batch([(str(write_genome(tmp_path / "g.fa")), asked)])


# ---------------------------------------------------------------- on a cluster of two nodes


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of two nodes of one core each, on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cloudpickle import register_pickle_by_value
        from ray.cluster_utils import Cluster

        register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file
        node = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 << 20}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        cluster.add_node(**node)
        yield cluster
        cluster.shutdown()


class Place:
    """A genome that one process has scanned, to compare with."""

    def __init__(self, folder: Path, weights: Path) -> None:
        self.folder, self.weights = folder, weights
        self.genome = write_genome(folder / "g.fa")
        scan_genome(self.genome, self.options("one"))

    def options(self, name: str) -> Options:
        return Options(
            output=self.folder / f"{name}.bw", bed=self.folder / f"{name}.bed", model="mire2e-tiny",
            weights=self.weights, part_windows=100, min_score=0.0,
        )  # fmt: skip

    def store(self, name: str) -> ScoreStore:
        return ScoreStore.open(f"{self.options(name).output}.store")

    def same_bytes(self, name: str) -> bool:
        names = ((self.folder / f"one.{suffix}", self.folder / f"{name}.{suffix}") for suffix in ("bw", "bed"))
        return all(ours.read_bytes() == theirs.read_bytes() for ours, theirs in names)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> Place:
    place = Place(tmp_path_factory.mktemp("batch"), tiny_weights)
    assert place.store("one").plan.parts == PARTS
    return place


def copier(place: Place, trouble: Callable[[int | None, int], None] = lambda part, attempt: None) -> type[Worker]:
    """A worker that scans nothing: it copies the scores of the first run, and meets with trouble on the way.

    ``trouble`` is told the part (None: the run is opened) and how often it was tried before, in all processes.
    """
    source, tries = f"{place.options('one').output}.store", place.folder / f"tries-{next(NUMBERS)}"
    tries.mkdir()

    class Copier(Worker):
        def open(self, genome: str, options: Options) -> str:
            trouble(None, self.attempt("open"))
            self.source = ScoreStore.open(source)
            self.store = ScoreStore.create_or_open(str(options.store), self.source.plan)
            return "copier"

        def scan(self, parts: Sequence[int]) -> None:
            for part in parts:
                trouble(part, self.attempt(str(part)))
                self.store.write(part, self.source.read(part))

        def attempt(self, what: str) -> int:
            for number in itertools.count():
                try:
                    (tries / f"{what}-{number}").touch(exist_ok=False)
                    return number
                except FileExistsError:
                    continue
            raise AssertionError

    Copier.tries = tries  # type: ignore[attr-defined]
    return Copier


NUMBERS = itertools.count()


def tried(worker: Any) -> dict[str, int]:
    """How often each part was tried."""
    names = [path.name.split("-")[0] for path in worker.tries.iterdir()]
    return {name: names.count(name) for name in sorted(set(names))}


@needs_ray
def test_two_genomes_on_two_nodes_are_the_bytes_of_one_process(cluster: Any, place: Place) -> None:
    other = write_genome(place.folder / "other.fa", seed=1)
    scan_genome(other, place.options("other-one"))
    rows = [(place.genome, "two"), (other, "other-two")]
    lines = [f"{genome}\t{place.folder}/{name}.bw\t{place.folder}/{name}.bed" for genome, name in rows]
    (place.folder / "runs.tsv").write_text("\n".join(["genome\toutput\tbed", *lines]))
    common = Options(model="mire2e-tiny", weights=place.weights, part_windows=100, min_score=0.0)
    seen: list[Progress] = []
    runs = runs_of(None, place.folder / "runs.tsv", common)
    records = scan_batch(runs, address=cluster.address, report=seen.append)
    assert place.same_bytes("two")
    for suffix in ("bw", "bed"):
        ours, theirs = (place.folder / f"{name}.{suffix}" for name in ("other-one", "other-two"))
        assert ours.read_bytes() == theirs.read_bytes()
    assert [record["calls"] for record in records] == [
        scan_record(place, name)["calls"] for name in ("one", "other-one")
    ]
    assert [record["parts_done"] for record in records] == [PARTS, PARTS]
    assert all(record["devices"] == ["cpu cpu"] for record in records)
    assert (seen[-1].done, seen[-1].resumed) == (seen[-1].total, 0)
    assert seen[-1].total == sum(2 * record["windows"] for record in records)


def scan_record(place: Place, name: str) -> Any:
    return json.loads((place.folder / f"{name}.run.json").read_text())


@needs_ray
def test_workers_that_die_hang_and_fail_cost_nothing_but_time(cluster: Any, place: Place) -> None:
    def trouble(part: int | None, attempt: int) -> None:
        if attempt:
            return
        if part == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if part == 2:
            raise RuntimeError("bad luck")
        if part == 4:
            time.sleep(1000)
        if part is None:
            os._exit(1)

    worker = copier(place, trouble)
    began = time.monotonic()
    scan_batch([(str(place.genome), place.options("three"))], address=cluster.address, timeout=2, worker=worker)
    assert time.monotonic() - began < 60
    assert place.same_bytes("three")
    counts = tried(worker)
    assert {name: counts[name] for name in "012345"} == {"0": 1, "1": 2, "2": 2, "3": 1, "4": 2, "5": 1}


@needs_ray
@pytest.mark.slow
def test_a_part_that_always_fails_is_named_and_the_others_are_done(
    cluster: Any, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(batch.TOGETHER, "CPU", 3)

    def trouble(part: int | None, attempt: int) -> None:
        if part == 1:
            raise ValueError("this part\nis poison")

    worker, runs = copier(place, trouble), [(str(place.genome), place.options("four"))]
    with pytest.raises(
        IncompleteError, match=r"four\.bw\.store: of its parts 1 failed 3 times \(part 1: this part is poison\)"
    ):
        scan_batch(runs, address=cluster.address, workers=1, worker=worker)
    assert tried(worker)["1"] == 1 + 3  # with its neighbours, then alone
    assert place.store("four").missing() == [1]
    assert not runs[0][1].output.exists()  # type: ignore[union-attr]

    well = copier(place)
    (record,) = scan_batch(runs, address=cluster.address, workers=1, worker=well)
    assert tried(well) == {"1": 1, "open": 1}  # it resumes
    assert record["parts_done"] == PARTS
    assert place.same_bytes("four")


@needs_ray
def test_a_node_that_goes(cluster: Any, place: Place) -> None:
    node = cluster.add_node(num_cpus=1, include_dashboard=False, object_store_memory=100 << 20)
    worker = copier(place, lambda part, attempt: time.sleep(0 if part is None else 1.5))
    gone: list[float] = []

    def report(progress: Progress) -> None:
        if progress.done and not gone:
            gone.append(progress.done)
            cluster.remove_node(node, allow_graceful=False)

    scan_batch([(str(place.genome), place.options("five"))], address=cluster.address, report=report, worker=worker)
    assert gone
    assert place.same_bytes("five")


@needs_ray
@pytest.mark.slow
def test_a_genome_that_cannot_be_opened_does_not_keep_the_others(cluster: Any, place: Place) -> None:
    bad = place.folder / "bad.fa"
    bad.write_text(">chr1\nACGTX\n")
    good = copier(place)

    class Half(good):  # type: ignore[valid-type, misc]
        def open(self, genome: str, options: Options) -> str:
            if genome.endswith("bad.fa"):
                raise InputError(f"{genome}:2: 'X' in the sequence")
            return str(super().open(genome, options))

    runs = [(str(bad), place.options("bad")), (str(place.genome), place.options("six"))]
    with pytest.raises(InputError, match=r"bad\.fa:2: 'X' in the sequence; of 2 genomes 1 are not finished"):
        scan_batch(runs, address=cluster.address, worker=Half)
    assert place.same_bytes("six")
    assert not (place.folder / "bad.bw").exists()


@needs_ray
def test_workers_that_die_on_opening_end_the_run(cluster: Any, place: Place) -> None:
    def trouble(part: int | None, attempt: int) -> None:
        os._exit(1)

    worker = copier(place, trouble)
    with pytest.raises(IncompleteError, match=r"workers died [2-4] times on opening it"):
        scan_batch([(str(place.genome), place.options("seven"))], address=cluster.address, attempts=2, worker=worker)
    assert tried(worker)["open"] in (2, 3)


@needs_ray
@pytest.mark.slow
def test_a_store_that_the_driver_does_not_see(cluster: Any, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "PATIENCE", 1.0)

    class Elsewhere(copier(place)):  # type: ignore[misc]
        def scan(self, parts: Sequence[int]) -> None:
            pass

    with pytest.raises(IncompleteError, match=r"of its parts 6 failed 1 times .*is the store shared"):
        scan_batch([(str(place.genome), place.options("eight"))], address=cluster.address, attempts=1, worker=Elsewhere)


@needs_ray
@pytest.mark.slow
def test_a_batch_that_is_stopped_resumes(cluster: Any, place: Place) -> None:
    stop, worker = Stop(), copier(place)
    runs = [(str(place.genome), place.options("nine"))]

    def report(progress: Progress) -> None:
        if progress.done:
            stop.request()

    with pytest.raises(Stopped):
        scan_batch(runs, address=cluster.address, workers=1, report=report, stop=stop, worker=worker)
    left = place.store("nine").missing()
    assert 0 < len(left) < PARTS
    assert not runs[0][1].output.exists()  # type: ignore[union-attr]
    again = copier(place)
    scan_batch(runs, address=cluster.address, workers=1, worker=again)
    assert tried(again) == {str(part): 1 for part in left} | {"open": 1}
    assert place.same_bytes("nine")


@needs_ray
def test_no_cluster_there(place: Place) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(UsageError, match="--address nowhere"):
        scan_batch([(str(place.genome), place.options("ten"))], address="nowhere")
    assert signal.getsignal(signal.SIGTERM) is before  # Ray takes it, and is made to give it back


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_stops_when_asked_and_resumes(
    tmp_path: Path, tiny_weights: Path, number: signal.Signals, code: int
) -> None:
    """On a Ray of its own, with workers that scan."""
    program, genome = Path(sys.executable).with_name("mirscan"), write_genome(tmp_path / "g.fa", bases=60_000)
    command = [str(program), "batch", str(genome), "-o", str(tmp_path / "x.bw"), "--model", "mire2e-tiny"]
    command += ["--weights", str(tiny_weights), "--part-windows", "100"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    marks = tmp_path / "x.bw.store" / "parts"
    while process.poll() is None and not (marks.is_dir() and any(marks.iterdir())):
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert not (tmp_path / "x.bw").exists()
    done = {path: path.stat().st_mtime_ns for path in marks.iterdir()}
    subprocess.run(command, check=True, timeout=300)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    scan_genome(genome, Options(output=tmp_path / "y.bw", model="mire2e-tiny", weights=tiny_weights, part_windows=100))
    assert (tmp_path / "x.bw").read_bytes() == (tmp_path / "y.bw").read_bytes()


# ---------------------------------------------------------------- the recipes


def recipes(language: str) -> list[str]:
    """The blocks of a language in docs/clusters.md."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "clusters.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_scripts_of_the_recipes_are_shell() -> None:
    assert len(recipes("sh")) == 3
    for script in recipes("sh"):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@needs_ray  # which brings a reader of YAML
def test_the_manifests_of_the_recipes_are_those_of_a_ray_job() -> None:
    import yaml

    job, tpu = map(yaml.safe_load, recipes("yaml"))
    groups = [*job["spec"]["rayClusterSpec"]["workerGroupSpecs"], *tpu["workerGroupSpecs"]]
    limits = [group["template"]["spec"]["containers"][0]["resources"]["limits"] for group in groups]
    assert [limit.get("nvidia.com/gpu") or limit.get("google.com/tpu") for limit in limits] == ["1", "8"]
    mirscan, *arguments = shlex.split(job["spec"]["entrypoint"])
    with pytest.raises(InputError, match=r"runs\.tsv"):  # it is a command line that is understood
        cli.app(arguments, prog_name=mirscan, standalone_mode=False)
