"""`mirscan doctor`: what is right passes, what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mirscan.checkpoints import weights
from mirscan.commands import doctor
from mirscan.commands.demo import PRECURSORS
from mirscan.commands.doctor import Check, examine, inputs_of, versions
from mirscan.errors import InputError
from mirscan.models import MODELS


def test_this_machine_scores_as_it_should() -> None:
    checks = list(examine(["duplex"], 1))
    assert [check.what.split(",")[0] for check in checks] == ["hairpin energies", "duplex"]
    assert all(check.passed for check in checks), checks


@pytest.mark.slow
def test_every_shipped_model_scores_as_it_should() -> None:
    checks = list(examine())
    assert {check.what.split(",")[0] for check in checks} == {"hairpin energies", *weights.registry()}
    assert all(check.passed for check in checks), checks


def test_the_example_holds_something_to_score() -> None:
    records = PRECURSORS.count(">")
    duplexes, scalars = inputs_of(MODELS["duplex"])
    assert len(duplexes) == len(scalars) > 2 * records
    for name in ("deepmirgene", "deepmir-resnet-1m-20ck", "mirdnn-animal"):  # which need folds
        inputs = inputs_of(MODELS[name])
        assert tuple(column.shape[1:] for column in inputs) == MODELS[name].inputs
        assert all(len(np.unique(column)) > 1 for column in inputs)
    (codes,) = inputs_of(MODELS["mire2e"])
    assert codes.shape[0] > 100
    assert (codes < 4).all()


def test_a_wrong_device_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    scored = doctor._scored
    monkeypatch.setattr(doctor, "_scored", lambda *about: scored(*about) + np.float32(0.01))
    energies, scores = examine(["duplex"], 1)
    assert energies.passed
    assert not scores.passed
    monkeypatch.setattr(doctor, "_scored", lambda *about: np.full_like(scored(*about), np.nan))
    assert not list(examine(["duplex"], 1))[1].passed
    assert not Check("fewer", "here", doctor._difference(np.ones(3), [1.0] * 4), 1.0).passed


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no weights are shipped for model 'duplex-single'"):
        list(examine(["duplex-single"], 1))
    monkeypatch.setattr(doctor, "GOLDEN", tmp_path / "golden.json")
    with pytest.raises(InputError, match=r"golden\.json: cannot be read"):
        list(examine())
    assert versions()["python"]
