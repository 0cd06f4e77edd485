"""The scan: the windows and scores of a naive scanner, whatever the parts, batches, devices and interruptions."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirscan.devices import Scorer, local_devices
from mirscan.errors import InputError, ModelError, Stop, Stopped
from mirscan.genome import open_genome
from mirscan.models import find_model, load_model
from mirscan.scanning.loop import Progress, scan
from mirscan.scanning.options import Options
from mirscan.scanning.prepare import make_plan
from mirscan.scanning.run import scan_genome
from mirscan.store import ScoreStore
from mirscan.types import Plan

Contigs = list[tuple[str, str]]
Naive = dict[tuple[str, int], tuple[float, float]]
"""Scores of both strands by contig and start."""
WINDOW = 100
MULTIPLIERS = np.random.default_rng(0).integers(1, 1 << 20, WINDOW)


class Double:
    """A scorer whose score is a checksum of the window: any wrong base, strand or place shows."""

    def __init__(self, rows: int = 16, spoil: Callable[[np.ndarray], np.ndarray] = lambda scores: scores) -> None:
        self.rows = rows
        self.submitted = 0
        self._spoil = spoil

    def submit(self, codes: np.ndarray) -> np.ndarray:
        assert codes.dtype == np.uint8
        assert len(codes) <= self.rows
        self.submitted += len(codes)
        return self._spoil(checksum(codes))


def checksum(codes: np.ndarray) -> np.ndarray:
    return ((codes.astype(np.int64) @ MULTIPLIERS) % 65521 / 65521).astype(np.float32)


def naive(contigs: Contigs, step: int, score: Callable[[np.ndarray], np.ndarray], skip: str = "NRYn") -> Naive:
    """A scanner in ten lines: no kernel, no store, no batches."""
    scores: Naive = {}
    for name, text in contigs:
        last = len(text) - WINDOW
        for start in sorted({*range(0, last + 1, step), last}) if last >= 0 else []:
            window = text[start : start + WINDOW]
            if any(letter in skip for letter in window) or not any(letter in "ACGTacgt" for letter in window):
                scores[name, start] = (np.nan, np.nan)
                continue
            plus = ["ACGTN".index(letter if letter in "ACGT" else "N") for letter in window.upper()]
            minus = [3 - code if code < 4 else code for code in reversed(plus)]
            scores[name, start] = tuple(score(np.array([plus, minus], dtype=np.uint8)))
    return scores


def text_of(contigs: Contigs) -> bytes:
    return b"".join(b">%s x\n%s\n" % (name.encode(), text.encode()) for name, text in contigs)


def random_contigs(*lengths: int, seed: int = 0) -> Contigs:
    random = np.random.default_rng(seed)
    return [(f"chr{k}", "".join(random.choice(list("ACGT"), length))) for k, length in enumerate(lengths, 1)]


@dataclasses.dataclass
class Scanned:
    plan: Plan
    scores: np.ndarray
    store: ScoreStore

    def by_place(self) -> Naive:
        rows = iter(self.scores.tolist())
        return {
            (self.plan.contigs[s.contig].name, int(start)): tuple(next(rows))
            for s in self.plan.segments
            for start in self.plan.grid.starts(self.plan.contigs[s.contig].length, s.first, s.count)
        }


class Bench:
    """Scans genomes in a folder by the pieces of `mirscan.scanning.run`."""

    def __init__(self, folder: Path, weights: Path) -> None:
        self.folder, self.weights, self.runs = folder, weights, 0

    def scan(
        self,
        contigs: Contigs,
        scorer: Any = None,
        *,
        part_windows: int = 16,
        compiled_rows: int = 8,
        url: str | None = None,
        shape: dict[str, Any] | None = None,
        **options: Any,
    ) -> Scanned:
        self.runs += 1
        path = self.folder / f"{self.runs}.fa"
        path.write_bytes(text_of(contigs))
        asked = Options(output=self.folder / "x.bw", weights=self.weights, model="mire2e-tiny", **options)
        with open_genome(path, spool=self.folder / "spool", soft_mask=asked.soft_mask) as genome:
            plan = make_plan(genome, find_model("mire2e-tiny"), asked)
            plan = dataclasses.replace(plan, part_windows=part_windows, compiled_rows=compiled_rows)
            store = ScoreStore.create_or_open(url or f"memory://{self.folder.name}-{self.runs}/", plan)
            scan(plan, genome, store, scorer or Double(), spec=find_model("mire2e-tiny"), **(shape or {}))
        return Scanned(plan, np.concatenate([scores for _, scores in store.iter_scores()]), store)


@pytest.fixture
def bench(tmp_path: Path, tiny_weights: Path) -> Bench:
    return Bench(tmp_path, tiny_weights)


@pytest.fixture(scope="module")
def model(tiny_weights: Path) -> tuple[Any, Any]:
    return load_model("mire2e-tiny", tiny_weights)


@pytest.fixture(scope="module")
def scorers(model: tuple[Any, Any]) -> dict[int, Scorer]:
    """Scorers of 32 rows a device, by their number of devices."""
    return {n: Scorer(find_model("mire2e-tiny"), *model, rows=32, devices=local_devices(n)) for n in (1, 2)}


def assert_equal(found: Naive, expected: Naive) -> None:
    assert list(found) == list(expected)
    np.testing.assert_array_equal(np.array(list(found.values())), np.array(list(expected.values()), dtype=np.float32))


RUNS = st.lists(
    st.tuples(st.text("ACGT", min_size=1, max_size=40), st.integers(1, 12), st.sampled_from("uuuuuulN")), max_size=8
)


@st.composite
def genomes(draw: st.DrawFn) -> Contigs:
    """Contigs of repeated motifs, some in lower case, some replaced by N or by another ambiguity code."""
    contigs = []
    for number in range(draw(st.integers(1, 4))):
        text = "".join(
            {"u": motif * times, "l": motif.lower() * times, "N": "NR"[times % 2] * times}[kind]
            for motif, times, kind in draw(RUNS)
        )
        contigs.append((f"c{number}", text))
    contigs.append(("last", "".join(draw(st.permutations("ACGT" * 30)))))
    return contigs


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    genomes(),
    st.sampled_from([1, 7, 20, 33, 100]),
    st.sampled_from(["scan", "skip"]),
    st.sampled_from(["skip", "zero"]),
    st.integers(1, 40),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_windows_and_scores_of_a_naive_scanner(
    bench: Bench, contigs: Contigs, step: int, mask: str, ambiguous: str, part: int, steps: int, in_flight: int
) -> None:
    lower = "acgtn" if mask == "skip" else ""
    skip = lower + ("NRYn" if ambiguous == "skip" else "")
    expected = naive(contigs, step, checksum, skip)
    options = {"soft_mask": mask, "ambiguous": ambiguous, "step": step}
    shape = {"in_flight": in_flight}
    scanned = bench.scan(contigs, Double(8 * steps), part_windows=part, shape=shape, **options)
    assert_equal(scanned.by_place(), expected)
    # windows in = windows out
    summary = scanned.store.summary()
    assert summary["windows"] == len(expected)
    assert summary["scored"] + summary["not_scored"] == 2 * len(expected)
    assert summary["scored"] == 2 * sum(np.isfinite(score) for score, _ in expected.values())


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 700), st.integers(0, 400)), min_size=1, max_size=4))
def test_regions_score_as_the_full_run(bench: Bench, asked: list[tuple[int, int, int]]) -> None:
    contigs = random_contigs(700, 60, 431)
    expected = naive(contigs, 20, checksum)
    regions, wanted = [], set()
    for number, start, size in asked:
        name, text = contigs[number]
        start, end = min(start, len(text)), min(start + size, len(text))
        regions.append(f"{name}:{start}-{end}")
        wanted |= {key for key in expected if key[0] == name and start - 1 <= key[1] and key[1] + WINDOW <= end}
    if not wanted:
        with pytest.raises(InputError, match="no window of 100 bases is left"):
            bench.scan(contigs, regions=tuple(regions))
        return
    found = bench.scan(contigs, regions=tuple(regions)).by_place()
    assert_equal(found, {key: expected[key] for key in expected if key in wanted})


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 30), st.sampled_from([5, 20, 100]), st.integers(0, 1000))
def test_mirrored_under_the_reverse_complement(bench: Bench, count: int, step: int, seed: int) -> None:
    """Where the grid has no tail, the windows of the other strand are the same windows in reverse."""
    ((name, text),) = random_contigs(WINDOW + count * step, seed=seed)
    mirrored = text[::-1].translate(str.maketrans("ACGT", "TGCA"))
    forward = bench.scan([(name, text)], step=step).scores
    backward = bench.scan([(name, mirrored)], step=step).scores
    np.testing.assert_array_equal(forward[::-1, ::-1], backward)


def test_bytes_do_not_depend_on_batches_parts_or_devices(bench: Bench, scorers: dict[int, Scorer]) -> None:
    contigs = random_contigs(1500, 433, 130, seed=3)
    contigs[1] = (contigs[1][0], contigs[1][1][:200] + "N" + contigs[1][1][201:])
    reference = bench.scan(contigs, scorers[2], part_windows=10_000, compiled_rows=32).scores
    for part, devices, in_flight in ((1, 1, 1), (16, 2, 1), (17, 1, 16), (64, 2, 3), (10_000, 1, 256)):
        scanned = bench.scan(
            contigs, scorers[devices], part_windows=part, compiled_rows=32, shape={"in_flight": in_flight}
        )
        assert scanned.scores.tobytes() == reference.tobytes(), (part, devices, in_flight)


def test_the_model_is_mirrored_too(bench: Bench, scorers: dict[int, Scorer]) -> None:
    ((name, text),) = random_contigs(WINDOW + 40 * 20, seed=4)
    mirrored = text[::-1].translate(str.maketrans("ACGT", "TGCA"))
    forward = bench.scan([(name, text)], scorers[2], compiled_rows=32).scores
    backward = bench.scan([(name, mirrored)], scorers[2], compiled_rows=32).scores
    assert forward[::-1, ::-1].tobytes() == backward.tobytes()


class StopAfter:
    """Asks to stop after so many reports."""

    def __init__(self, batches: int) -> None:
        self.stop, self.left = Stop(), batches

    def __call__(self, progress: Progress) -> None:
        self.left -= 1
        if self.left == 0:
            self.stop.request()


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 30), st.integers(1, 3), st.integers(1, 4))
def test_a_stopped_scan_loses_at_most_one_batch(
    bench: Bench, stops: list[int], part: int, steps: int, in_flight: int
) -> None:
    contigs = random_contigs(1300, 310, seed=5)
    contigs[0] = (contigs[0][0], contigs[0][1][:500] + "N" * 130 + contigs[0][1][630:])
    expected = naive(contigs, 20, checksum)
    rows = 8 * steps
    submitted = stopped = 0
    url = f"memory://{bench.folder.name}-stopped-{bench.runs}/"
    for batches in [*stops, 0]:
        scorer, ask = Double(rows), StopAfter(batches)
        shape = {"in_flight": in_flight, "report": ask, "stop": ask.stop}
        try:
            scanned = bench.scan(contigs, scorer, part_windows=part, url=url, shape=shape)
        except Stopped:
            stopped += 1
        submitted += scorer.submitted
    assert_equal(scanned.by_place(), expected)
    scored = 2 * sum(np.isfinite(score) for score, _ in expected.values())
    assert scored <= submitted <= scored + stopped * rows
    assert not [key for key in scanned.store._keys("partial/")]


def test_a_request_before_the_scan_is_heard(bench: Bench) -> None:
    stop = Stop()
    with pytest.raises(Stopped):
        stop.request()
    scorer = Double()
    with pytest.raises(Stopped):
        bench.scan(random_contigs(2000), scorer, shape={"stop": stop})
    assert scorer.submitted <= 2 * scorer.rows


def test_progress_counts_windows(bench: Bench) -> None:
    contigs = random_contigs(1000)
    contigs[0] = ("chr1", "N" * 30 + contigs[0][1][30:])
    seen: list[tuple[int, int, int]] = []

    def report(progress: Progress) -> None:
        seen.append((progress.done, progress.resumed, progress.total))

    ask = StopAfter(4)
    url = f"memory://{bench.folder.name}-progress/"
    with pytest.raises(Stopped):
        bench.scan(contigs, url=url, shape={"report": ask, "stop": ask.stop})
    resumed = 92 - 32 * len(ScoreStore.open(url).missing()) + 4  # parts of 16 windows, the last of 14
    bench.scan(contigs, url=url, shape={"report": report})
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert 0 < resumed < 92
    assert seen[-1] == (92, resumed, 92)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_model_that_gives_no_number_is_named_with_its_window(bench: Bench, bad: float) -> None:
    contigs = random_contigs(150, 743, seed=6)
    wanted = checksum(np.array([["TGCA".index(x) for x in reversed(contigs[1][1][643:])]], dtype=np.uint8))

    def spoil(scores: np.ndarray) -> np.ndarray:
        return np.where(scores == wanted, np.float32(bad), scores)

    url, threads = f"memory://{bench.folder.name}-nan/", threading.active_count()
    with pytest.raises(ModelError, match=rf"^the model gave {bad} for the window chr2:644-743 \(-\); nothing"):
        bench.scan(contigs, Double(16, spoil), url=url)
    assert threading.active_count() == threads
    assert ScoreStore.open(url).missing() == [2]


def test_an_error_while_reading_ends_the_scan(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from mirscan.genome import Genome

    real = Genome.codes

    def codes(self: Genome, contig: int, start: int, end: int) -> np.ndarray:
        if start > 1000:
            raise InputError("the file changed while it was in use")
        return real(self, contig, start, end)

    monkeypatch.setattr(Genome, "codes", codes)
    threads = threading.active_count()
    with pytest.raises(InputError, match="changed"):
        bench.scan(random_contigs(3000))
    assert threading.active_count() == threads


def test_two_scans_of_one_store_at_the_same_time(bench: Bench) -> None:
    """Neither tears what the other writes: both give equal bytes."""
    contigs = random_contigs(9000, seed=7)
    url = str(bench.folder / "shared.store")
    expected = naive(contigs, 20, checksum)
    benches = [Bench(bench.folder / str(n), bench.weights) for n in range(3)]
    for each in benches:
        each.folder.mkdir()
    with ThreadPoolExecutor(3) as pool:
        for scanned in pool.map(lambda each: each.scan(contigs, url=url), benches):
            assert_equal(scanned.by_place(), expected)
    assert ScoreStore.open(url).missing() == []


def test_end_to_end_the_track_holds_the_naive_scores(tmp_path: Path, tiny_weights: Path) -> None:
    """`scan_genome` to bigWig, read back by another program, beside the module applied to each window by itself.

    The compiled shapes differ, so sums run in another order: the last bits may differ.
    """
    from flax import nnx

    pyBigWig = pytest.importorskip("pyBigWig")
    contigs = random_contigs(743, 80, 431, seed=8)
    contigs[2] = (contigs[2][0], contigs[2][1][:200] + "N" + contigs[2][1][201:])
    (tmp_path / "g.fa").write_bytes(text_of(contigs))
    options = Options(
        output=tmp_path / "o.bw", per_strand=True, bed=tmp_path / "o.bed", model="mire2e-tiny", weights=tiny_weights
    )
    record = scan_genome(tmp_path / "g.fa", options)
    module, spec = nnx.merge(*load_model("mire2e-tiny", tiny_weights)), find_model("mire2e-tiny")
    apply = jax.jit(lambda codes: spec.score(module(codes)))
    expected = naive(contigs, 20, lambda codes: np.asarray(apply(codes)))
    values = np.array(list(expected.values()))
    assert np.unique(values[np.isfinite(values)]).size > 50  # random weights, but not a constant
    assert record["windows"] == len(expected)
    assert record["scored"] == 2 * sum(np.isfinite(score) for score, _ in expected.values())
    for name, column in (("o.bw", max), ("o.plus.bw", lambda pair: pair[0]), ("o.minus.bw", lambda pair: pair[1])):
        with pyBigWig.open(str(tmp_path / name)) as track:
            assert track.chroms() == {contig: len(text) for contig, text in contigs}
            found = {(c, s): value for c, _ in contigs for s, _, value in track.intervals(c) or ()}
        drawn = {}
        for (contig, start), pair in expected.items():
            if np.isfinite(pair[0]):
                drawn[contig, -(-start // 20) * 20 + 40] = np.float32(column(pair))
        assert found.keys() == drawn.keys()
        np.testing.assert_allclose([found[key] for key in drawn], list(drawn.values()), rtol=1e-5)
    assert (tmp_path / "o.run.json").is_file()
