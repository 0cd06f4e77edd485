"""The published models in a scan: windows cut, folded, encoded and scored as one by one; mirtron models refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirscan.commands.score import score_molecules
from mirscan.errors import InputError, UsageError
from mirscan.kernels.bases import decode, reverse_complement
from mirscan.models import MODELS, load_model
from mirscan.scanning.options import Options
from mirscan.scanning.run import scan_genome
from mirscan.store import ScoreStore
from mirscan.structure.molecules import fold_sequences, molecules_of
from mirscan.types import Grid

GRID = Grid(100, 20)
FAST = ("deepmirgene",)
FAST_AND_SLOW = [
    name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
    for name, spec in MODELS.items()
    if spec.encode is not None and spec.task == "precursor"
]


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Seven hundred bases with stem-loops in them."""
    generator = np.random.default_rng(1)
    codes = generator.integers(0, 4, 711).astype(np.uint8)
    for start in (40, 300, 520):
        arm = generator.integers(0, 4, 30).astype(np.uint8)
        codes[start : start + 30], codes[start + 39 : start + 69] = arm, reverse_complement(arm)
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    path.write_text(f">c\n{decode(codes).decode()}\n")
    return path, codes


def scanned(path: Path, home: Path, name: str, weights: Path, **options: Any) -> np.ndarray:
    """Window scores, float32 (windows, 2)."""
    home.mkdir(exist_ok=True)
    scan_genome(path, Options(output=home / "x.bw", model=name, weights=weights, precision="float32", **options))
    store = ScoreStore.open(str(home / "x.bw.store"))
    return np.concatenate([scores for _, scores in store.iter_scores()])


@pytest.mark.parametrize("name", FAST_AND_SLOW)
def test_a_scan_is_its_windows_one_by_one(
    name: str, genome: tuple[Path, np.ndarray], weights_of: Callable[[str], Path], tmp_path: Path
) -> None:
    path, codes = genome
    spec, weights = replace(MODELS[name], mini_batch=2), weights_of(name)
    found = scanned(path, tmp_path / "run", name, weights)
    starts = GRID.starts(len(codes), 0, GRID.count(len(codes)))
    texts = []
    for start in starts:
        window = codes[start : start + 100]
        texts += [decode(each).decode().replace("T", "U") for each in (window, reverse_complement(window))]
    folds = fold_sequences(texts, "hairpins") if "fold" in spec.needs else None
    expected = score_molecules(spec, load_model(name, weights), molecules_of(texts, folds))
    np.testing.assert_allclose(found.reshape(-1), expected, atol=2e-6)
    assert len(np.unique(found)) > 5

    small = scanned(path, tmp_path / "parts", name, weights, part_windows=7, batch=3)
    np.testing.assert_array_equal(small, found)


def test_viennarna_folds_where_it_is_asked_for(
    genome: tuple[Path, np.ndarray], weights_of: Callable[[str], Path], tmp_path: Path
) -> None:
    path, codes = genome
    name = "deepmirgene"
    weights = weights_of(name)
    found = scanned(path, tmp_path / "run", name, weights, folder="viennarna", threads=1)
    text = decode(codes[:100]).decode().replace("T", "U")
    some = molecules_of([text], fold_sequences([text], "viennarna"))
    assert found[0, 0] == pytest.approx(score_molecules(MODELS[name], load_model(name, weights), some)[0], abs=2e-6)
    with pytest.raises(InputError, match="folder"):  # a store folded otherwise is another scan
        scanned(path, tmp_path / "run", name, weights, threads=1)


def test_what_cannot_be_scanned_is_refused(genome: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mirtrons"):
        scan_genome(genome[0], Options(output=tmp_path / "x.bw", model="cnn-lstm"))
    with pytest.raises(UsageError, match="--fold-with"):
        scan_genome(genome[0], Options(output=tmp_path / "x.bw", model="mire2e", folder="viennarna"))
    assert not list(tmp_path.iterdir())
