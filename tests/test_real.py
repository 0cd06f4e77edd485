"""The main job on real sequence: a whole virus genome with the shipped weights, a human megabase with tiny ones."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pybigtools
import pyBigWig
import pytest
from flax import nnx

from mirscan.checkpoints.weights import registry
from mirscan.commands.score import score_molecules
from mirscan.evaluation.ranking import percentile
from mirscan.genome import open_genome
from mirscan.kernels.bases import decode
from mirscan.known.precursors import read_loci
from mirscan.models import MODELS, load_model
from mirscan.scanning.options import Options
from mirscan.scanning.run import scan_genome
from mirscan.store import ScoreStore
from mirscan.structure.molecules import fold_sequences, molecules_of
from mirscan.types import Grid

GRID = Grid(100, 20)


def read_alike(path: Path, contig: str, length: int) -> np.ndarray:
    """Values of a bigWig, (items, 3), after checking that two independent readers agree on all of them."""
    with pyBigWig.open(str(path)) as one, pybigtools.open(str(path)) as other:
        first = np.array(one.intervals(contig))
        second = np.array([row[:3] for row in other.records(contig)])
        assert one.chroms(contig) == other.chroms(contig) == length
        assert np.array_equal(first, second)
        header = one.header()
        widths = first[:, 1] - first[:, 0]
        assert header["nBasesCovered"] == widths.sum()
        assert header["sumData"] == pytest.approx((widths * first[:, 2]).sum(), rel=1e-6, abs=1)
        assert header["maxVal"] == pytest.approx(first[:, 2].max(), abs=1)
        for start in range(0, length - length // 8, length // 8):
            end = start + length // 8
            overlap = np.clip(np.minimum(first[:, 1], end) - np.maximum(first[:, 0], start), 0, None)
            if overlap.sum():
                exact = (overlap * first[:, 2]).sum() / overlap.sum()
                assert one.stats(contig, start, end, exact=True)[0] == pytest.approx(exact, rel=1e-5)
                # from zoom levels, whose bins at both ends reach beyond the stretch
                assert one.stats(contig, start, end, exact=False)[0] == pytest.approx(exact, rel=5e-2)
    return first


def naive(bases: np.ndarray, windows: np.ndarray, strand: int) -> np.ndarray:
    """Codes of some windows of the grid, cut without any of the scanner's code."""
    rows = []
    for window in windows.tolist():
        start = min(window * 20, len(bases) - 100)
        codes = bases[start : start + 100]
        rows.append(np.where(codes[::-1] < 4, 3 - codes[::-1], codes[::-1]) if strand else codes)
    return np.stack(rows)


@pytest.mark.real
@pytest.mark.skipif("mire2e" not in registry(), reason="no weights of mire2e are shipped")
def test_ebv_with_the_shipped_weights(shared_data: Path, tmp_path: Path) -> None:
    fasta = shared_data / "genomes" / "ebv_NC_007605.1.fa.gz"
    options = Options(output=tmp_path / "ebv.bw", bed=tmp_path / "ebv.bed", per_strand=True, model="mire2e")
    record = scan_genome(fasta, options)
    length = 171_823
    assert record["windows"] == GRID.count(length) == 8588
    assert record["scored"] == 2 * 8588
    store = ScoreStore.open(str(tmp_path / "ebv.bw.store"))
    scores = np.concatenate([part for _, part in store.iter_scores()])

    tracks = [read_alike(tmp_path / f"ebv{end}.bw", "NC_007605.1", length) for end in ("", ".plus", ".minus")]
    assert np.array_equal(tracks[0][:, 2].astype(np.float32), scores.max(axis=1))
    for strand in range(2):
        assert np.array_equal(tracks[1 + strand][:, 2].astype(np.float32), scores[:, strand])

    graph, state = load_model("mire2e", precision=store.plan.precision)
    model = nnx.merge(graph, state)
    with open_genome(fasta, spool=tmp_path / "spool") as genome:
        bases = genome.codes(0, 0, length)
    chosen = np.random.default_rng(0).choice(8588, 12, replace=False)
    for strand in range(2):
        expected = MODELS["mire2e"].score(model(jnp.asarray(naive(bases, chosen, strand))))
        np.testing.assert_allclose(
            scores[chosen, strand], expected, atol=2e-2 if store.plan.precision != "float32" else 1e-4
        )

    best = []
    starts = GRID.starts(length, 0, 8588)
    for locus in read_loci(shared_data / "genomes" / "ebv_NC_007605.1.gff3"):
        shared = np.minimum(starts + 100, locus.end) - np.maximum(starts, locus.start)
        best.append(scores[shared >= 0.8 * (locus.end - locus.start), int(locus.strand == "-")].max())
    assert len(best) == 25
    assert np.median(percentile(np.array(best), scores.reshape(-1))) >= 90


@pytest.mark.real
@pytest.mark.parametrize(
    "name", [name for name in registry() if MODELS[name].encode and MODELS[name].task == "precursor"]
)
def test_the_bart_cluster_with_a_published_model(name: str, shared_data: Path, tmp_path: Path) -> None:
    fasta = shared_data / "genomes" / "ebv_NC_007605.1.fa.gz"
    begin, end = 138_000, 149_000
    options = Options(output=tmp_path / "ebv.bw", model=name, regions=(f"NC_007605.1:{begin + 1}-{end}",))
    record = scan_genome(fasta, options)
    count = (end - begin - 100) // 20 + 1
    assert record["windows"] == count
    assert len(read_alike(tmp_path / "ebv.bw", "NC_007605.1", 171_823)) == count
    store = ScoreStore.open(str(tmp_path / "ebv.bw.store"))
    scores = np.concatenate([part for _, part in store.iter_scores()])
    assert np.isfinite(scores).all()

    with open_genome(fasta, spool=tmp_path / "spool") as genome:
        bases = genome.codes(0, begin, end)
    chosen = np.random.default_rng(0).choice(count, 8, replace=False)
    for strand in range(2):
        texts = [decode(row).decode() for row in naive(bases, chosen, strand)]
        folds = fold_sequences(texts, "hairpins") if "fold" in MODELS[name].needs else None
        expected = score_molecules(
            MODELS[name], load_model(name, precision=store.plan.precision), molecules_of(texts, folds)
        )
        np.testing.assert_allclose(scores[chosen, strand], expected, atol=1e-4)

    starts = begin + 20 * np.arange(count)
    loci = [x for x in read_loci(shared_data / "genomes" / "ebv_NC_007605.1.gff3") if begin <= x.start and x.end <= end]
    best = []
    for locus in loci:
        shared = np.minimum(starts + 100, locus.end) - np.maximum(starts, locus.start)
        best.append(scores[shared >= 0.8 * (locus.end - locus.start), int(locus.strand == "-")].max())
    assert len(best) > 15
    if "fold" in MODELS[name].needs:  # the bases alone tell little: virus and training differ in composition
        assert np.median(percentile(np.array(best), scores.reshape(-1))) > 60


@pytest.mark.real
def test_a_human_megabase(shared_data: Path, tmp_path: Path, tiny_weights: Path) -> None:
    fasta = shared_data / "genomes" / "hsa_GRCh38_chr1_1-10Mb.fa.gz"
    options = Options(
        output=tmp_path / "h.bw",
        per_strand=True,
        bed=tmp_path / "h.bed",
        model="mire2e-tiny",
        weights=tiny_weights,
        regions=("chr1:5,000,001-6,000,000",),
    )
    record = scan_genome(fasta, options)
    assert record["windows"] == (1_000_000 - 100) // 20 + 1
    track = read_alike(tmp_path / "h.bw", "chr1", 10_000_000)
    assert len(track) == record["windows"]
    assert (track[:, 0] == 5_000_040 + 20 * np.arange(len(track))).all()
    with open_genome(fasta, spool=tmp_path / "spool") as genome:
        bases = genome.codes(0, 5_000_000, 6_000_000)
    graph, state = load_model("mire2e-tiny", tiny_weights)
    model = nnx.merge(graph, state)
    chosen = np.random.default_rng(1).choice(len(track), 200, replace=False)
    both = [MODELS["mire2e-tiny"].score(model(jnp.asarray(naive(bases, chosen, strand)))) for strand in range(2)]
    np.testing.assert_allclose(track[chosen, 2], np.maximum(*both), atol=2e-2)
