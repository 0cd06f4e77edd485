"""`mirscan evaluate` on calls and on a store, against what can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mirscan.commands.evaluate import judge, table
from mirscan.errors import InputError
from mirscan.store import ScoreStore
from mirscan.types import Contig, Grid, Plan, Segment

TRUTH = "##gff-version 3\n" + "".join(
    f"c1\t.\tmiRNA_primary_transcript\t{start + 1}\t{start + 80}\t.\t{strand}\t.\tID=x{start};Name=cel-mir-{start}\n"
    for start, strand in ((1000, "+"), (5000, "-"), (9000, "+"))
)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "truth.gff3"
    path.write_text(TRUTH)
    return path


def bed(path: Path, rows: list[tuple[int, str, float]]) -> str:
    lines = [f"c1\t{start}\t{start + 90}\tx\t500\t{strand}\t{score}\n" for start, strand, score in rows]
    path.write_text("#contig\tstart\tend\tname\tscore\tstrand\traw_score\n" + "".join(lines))
    return str(path)


def plan_of(contigs: tuple[Contig, ...], segments: tuple[Segment, ...]) -> Plan:
    return Plan(
        genome="g.fa",
        genome_digest="d",
        contigs=contigs,
        segments=segments,
        grid=Grid(100, 20),
        model="mire2e-tiny",
        weights_digest="w",
        part_windows=128,
        ambiguous="skip",
        soft_mask="scan",
        backend="cpu",
        precision="float32",
        compiled_rows=16,
        selection={},
    )


def test_calls_are_counted_by_hand(tmp_path: Path, truth: Path) -> None:
    calls = bed(tmp_path / "c.bed", [(995, "+", 0.9), (3000, "+", 0.8), (5010, "-", 0.7), (9000, "-", 0.6)])
    figures = judge(calls, truth, megabases=1.0)["all"]
    assert figures.known == 3
    assert figures.found == 2
    assert figures.average_precision == pytest.approx((1 + 2 / 3) / 3)
    assert figures.antisense == 1
    lines = list(table({"all": figures}))
    assert lines[0].startswith("contig\tknown")
    assert lines[1].startswith("all\t3\t1.000\t0.556")


def test_hairpins_outside_the_scanned_regions_are_not_missed(tmp_path: Path, truth: Path) -> None:
    plan = plan_of((Contig("c1", 10_100),), (Segment(0, 200, 100), Segment(0, 440, 20)))
    store = ScoreStore.create_or_open(tmp_path / "s", plan)
    scores = np.full((120, 2), 0.1, dtype=np.float32)
    scores[5000 // 20 - 200, 1] = 0.9
    store.write(0, scores)
    store.finish()
    figures = judge(str(tmp_path / "s"), truth)["all"]
    assert figures.known == 2  # those at 5,000 and 9,000
    assert figures.average_precision >= 0.5


def test_a_store_of_windows_ranks_deeper_than_its_calls(tmp_path: Path, truth: Path) -> None:
    grid, length = Grid(100, 20), 10_100
    count = grid.count(length)
    plan = plan_of((Contig("c1", length), Contig("c2", 50)), (Segment(0, 0, count),))
    store = ScoreStore.create_or_open(tmp_path / "s", plan)
    scores = np.full((count, 2), 0.1, dtype=np.float32)
    scores[1000 // 20, 0], scores[5000 // 20, 1], scores[7000 // 20, 0] = 0.9, 0.8, 0.95
    scores[0] = np.nan
    for part in range(plan.parts):
        start, stop = plan.bounds(part)
        store.write(part, scores[start:stop])
    figures = judge(str(tmp_path / "s"), truth)["all"]
    assert figures.megabases == pytest.approx((count - 1) * 20 / 1e6)
    assert figures.average_precision >= (1 / 2 + 2 / 3) / 3
    assert figures.curve[0, 0] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("content", "megabases", "message"),
    [
        ("c1\t1\t2\n", 1.0, "c.bed:1"),
        ("c1\t1\t100\tx\t5\t+\t0.5\n", None, "--megabases"),
    ],
)
def test_bad_calls_are_one_clear_line(
    tmp_path: Path, truth: Path, content: str, megabases: float | None, message: str
) -> None:
    path = tmp_path / "c.bed"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        judge(str(path), truth, megabases)


def test_no_common_contig_is_bad_input(tmp_path: Path, truth: Path) -> None:
    path = tmp_path / "c.bed"
    path.write_text("chrX\t1\t100\tx\t5\t+\t0.5\n")
    truth.write_text("##gff-version 3\n")
    with pytest.raises(InputError, match="none of its hairpins"):
        judge(str(path), truth, 1.0)


def test_kinds_of_known_hairpins_are_judged_apart(tmp_path: Path) -> None:
    truth = tmp_path / "truth.gff3"
    lines = TRUTH.splitlines()
    truth.write_text("\n".join([lines[0], lines[1] + ";support=yes", lines[2] + ";support=no", lines[3]]) + "\n")
    calls = bed(tmp_path / "c.bed", [(5010, "-", 0.9), (3000, "+", 0.8), (995, "+", 0.7), (9000, "+", 0.6)])
    figures = judge(calls, truth, megabases=1.0, split="support")
    assert list(figures) == ["support=no", "support=yes", "all"]
    assert figures["support=no"].average_precision == 1.0
    assert figures["support=yes"].average_precision == pytest.approx(1 / 2)  # after the false call at 3000
    assert (figures["support=yes"].known, figures["support=yes"].calls) == (1, 2)
    with pytest.raises(InputError, match="attribute family="):
        judge(calls, truth, megabases=1.0, split="family")
