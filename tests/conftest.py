"""What every test stands on: two fake CPU devices, shapes checked, a cache of its own, tiny weights."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jaxtyping import install_import_hook

# Tests, and the programs they start, find no cache of the user and leave nothing in it. MIRSCAN_CACHE would win over
# XDG_CACHE_HOME, which some tests point elsewhere.
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers share that of the process that started them
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="mirscan-tests-")
    os.environ.pop("MIRSCAN_CACHE", None)
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# Sharding is tested on any machine. The backend starts here, so that nothing can choose another number later.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax

jax.config.update("jax_num_cpu_devices", 2)
jax.devices()

# What is compiled alike is compiled once, as in a user's runs: most of a test's time is the compiler's.
jax.config.update("jax_compilation_cache_dir", os.path.join(os.environ["XDG_CACHE_HOME"], "mirscan", "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

# Shapes in the signatures of models are checked while testing; this must come before the first import of a model.
install_import_hook("mirscan.models", "beartype.beartype")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def random_weights(name: str, folder: Path) -> Path:
    """Random weights of a model, in a folder of its name; no row's last layer saturates, or is clipped, with these."""
    from mirscan.checkpoints.weights import save
    from mirscan.models import plain, untrained_model

    save(folder / name, plain(untrained_model(name, seed=4)[1]), {"model": name}, half=True)
    return folder / name


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with random weights of the model ``mire2e-tiny``."""
    return random_weights("mire2e-tiny", tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def duplex_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with random weights of the model ``duplex``."""
    return random_weights("duplex", tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def weights_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder with random weights of any model."""
    home = tmp_path_factory.mktemp("checkpoints")
    return functools.cache(lambda name: random_weights(name, home))


@pytest.fixture
def place(tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """The program run in this process, with folders for its inputs and outputs."""
    from program import Place

    return Place(tmp_path, tiny_weights, monkeypatch, capsys)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model at all: a run then takes a tenth of a second."""
    from program import Double

    from mirscan.scanning import prepare, run

    monkeypatch.setattr(run, "Scorer", Double)
    monkeypatch.setattr(prepare, "load_model", lambda *name, **precision: (None, None))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real genomes and annotations beside the checkout; the test is skipped without it."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no ../shared/data")
    return SHARED / "data"
