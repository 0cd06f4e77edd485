"""Train miRe2e's three networks one after another, each on the frozen outputs of those before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from mirscan.checkpoints import weights
from mirscan.devices import best_precision
from mirscan.errors import InputError
from mirscan.evaluation.ranking import average_precision, max_f1
from mirscan.files.atomic import save_array
from mirscan.files.folders import claim
from mirscan.files.kinds import TRAINING, WEIGHTS
from mirscan.kernels.bases import decode
from mirscan.models import fill, find_model, load_model, plain, set_weights
from mirscan.paths import Paths
from mirscan.structure.folders import ViennaFolder
from mirscan.training.loop import Batch, Recipe, fit, runner
from mirscan.training.losses import focal_loss, guided_error, squared_error
from mirscan.training.mire2e_windows import PRECURSOR, Sources, draw_examples, read_corpus

STAGES = ("structure", "energy", "classifier")
STEMS = Recipe(batch=32, epochs=4, learning_rate=1e-3, warmup=200, dropout=False, epoch_size=3_200)
RECIPES = {
    "structure": Recipe(
        batch=32, epochs=5, learning_rate=1e-3, warmup=200, dropout=False, epoch_size=16_000, positive_share=0.75
    ),
    "energy": Recipe(batch=128, epochs=10, learning_rate=1e-3, positive_share=0.5),
    "classifier": Recipe(batch=128, epochs=3, learning_rate=5e-4, positive_share=0.25, epoch_size=80_000),
}
"""AdamW with a cosine where the paper has plain SGD for 200 epochs: it reaches the same loss in far fewer steps.
No dropout in the first stage, which sees each example a few times only. Before it come `STEMS`, plain stems in random
sequence: from them attention learns within minutes what pairs, where folded windows alone take many hours."""
PAIRS = {"(": 1, ")": -1, ".": 0}


def train_stage(
    name: str,
    stage: str,
    sources: Sources,
    out: Path,
    *,
    recipe: Recipe | None = None,
    start: Path | None = None,
    folded: int = 40_000,
    negatives: int = 60_000,
    copies: int = 2,
    processes: int = 1,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Train one stage and keep everything it needed under ``out``; what is there already is used again.

    Parameters
    ----------
    start : Path, optional
        A checkpoint of the whole model to begin from, instead of random weights.
    folded, negatives : int
        Background windows to fold (first two stages), and to tell from precursors (third stage).
    copies : int
        Windows of each precursor for the third stage, at different offsets and flanks.

    Raises
    ------
    InputError
        If an earlier stage has not been trained, the weights to start from are not the model's, or the folder is not
        ours.
    """
    recipe = recipe or RECIPES[stage]
    paths = Paths().reads("--precursors", sources.precursors).reads("--pseudo", sources.pseudo)
    for genome, known in sources.genomes:
        paths.reads("--genome", genome).reads("known hairpins", known)
    paths.reads_folder("--start", start, WEIGHTS).makes("--output", out, TRAINING)
    paths.makes("the stage", out / stage, TRAINING).look()
    before = STAGES[: STAGES.index(stage)]
    for earlier in before:
        if not (out / earlier / "best").is_dir():
            raise InputError(f"{out / earlier}: train the stage {earlier!r} first")
    for path in (sources.precursors, *(genome for genome, _ in sources.genomes)):
        if not path.is_file():
            raise InputError(f"{path}: no such file; check the path")
    claim(out, TRAINING)
    spec = find_model(name)
    model = spec.build(rngs=nnx.Rngs(recipe.seed), precision=best_precision(spec))
    frozen = spec.build(rngs=nnx.Rngs(0), precision=best_precision(spec))  # as a scan will compute it
    for earlier in before:
        _put(getattr(frozen, earlier), out / earlier / "best")
    frozen.eval()
    if start is not None:
        set_weights(model, plain(load_model(name, start)[1]))  # refuses weights of another model
    module = getattr(model, stage)
    if stage == "structure" and start is None:
        learn_stems(module, out / "stems", log)
    data, score, better = _PREPARE[stage](frozen, sources, out, folded, negatives, copies, processes, log)
    inside = data.pop("part")
    training = {key: array[inside == 0] for key, array in data.items()}
    held = {key: array[inside == 1] for key, array in data.items()}
    inputs = [key for key in ("codes", "structure", "energy") if key in data]

    def evaluate(predict: Callable[[Batch], np.ndarray], epoch: int) -> dict[str, float]:
        return score(predict({key: held[key] for key in inputs}), held)

    log(f"{stage}: {len(training['codes'])} examples to train on, {len(held['codes'])} held out")
    loss = {"structure": guided_error, "energy": squared_error, "classifier": focal_loss}[stage]
    return fit(module, loss, training, recipe, out / stage, evaluate=evaluate, better=better, log=log)


def assemble(name: str, out: Path, about: dict[str, Any], *, half: bool = True) -> Path:
    """Join the best weights of the three stages into one checkpoint, ``out/weights``, as float16 unless told."""
    model = find_model(name).build(rngs=nnx.Rngs(0))
    Paths().makes("--output", out, TRAINING).makes("its weights", out / "weights", WEIGHTS).look()
    for stage in STAGES:
        _put(getattr(model, stage), out / stage / "best")
        about = about | {stage: weights.describe(out / stage / "best")}
    model.eval()
    tree = plain(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    weights.save(out / "weights", tree, {"model": name} | about, half=half)
    return out / "weights"


def learn_stems(module: Any, folder: Path, log: Callable[[str], None]) -> None:
    """Teach the first stage what pairs with what, on plain stems in random sequence."""
    data, held = draw_stems(32_000, seed=0), draw_stems(256, seed=1)

    def evaluate(predict: Callable[[Batch], np.ndarray], epoch: int) -> dict[str, float]:
        return structure_figures(predict({"codes": held["codes"]}), held["target"])

    log(f"structure: {len(data['codes'])} plain stems to begin with")
    fit(module, guided_error, data, STEMS, folder, evaluate=evaluate, better="pair_f1", log=log)
    _put(module, folder / "best")


def draw_stems(count: int, window: int = 100, seed: int = 0) -> Batch:
    """Windows of random sequence, each with one stem of 10 to 40 pairs, a few of them broken.

    Returns
    -------
    dict
        ``codes`` (uint8), ``target`` (float32: +1, -1, 0) and ``partner`` (int32: the base that each base pairs with,
        itself where unpaired), each (count, window).
    """
    generator = np.random.default_rng(seed)
    strong = generator.beta(8, 8, size=(count, 1))
    codes = np.where(
        generator.random((count, window)) < strong,
        generator.integers(1, 3, (count, window)),
        3 * generator.integers(0, 2, (count, window)),
    ).astype(np.uint8)
    loop = generator.integers(3, 21, count)
    stem = np.minimum(generator.integers(10, 41, count), (window - loop) // 2)
    first = generator.integers(0, window - 2 * stem - loop + 1)
    broken = generator.choice([0.0, 0.0, 0.05, 0.1, 0.15], count)
    step = np.arange(stem.max())
    left = first[:, None] + step
    right = (first + 2 * stem + loop - 1)[:, None] - step
    row, column = np.nonzero((step < stem[:, None]) & (generator.random((count, len(step))) >= broken[:, None]))
    i, j = left[row, column], right[row, column]
    codes[row, j] = 3 - codes[row, i]
    partner = np.tile(np.arange(window, dtype=np.int32), (count, 1))
    partner[row, i], partner[row, j] = j, i
    return {"codes": codes, "target": np.sign(partner - np.arange(window)).astype(np.float32), "partner": partner}


def partners(signs: np.ndarray) -> np.ndarray:
    """The base that each base pairs with, itself where unpaired (int32), of rows of balanced signs (N, L)."""
    count, length = signs.shape
    found = np.tile(np.arange(length, dtype=np.int32), (count, 1))
    opened, depth = np.zeros((count, length), dtype=np.int32), np.zeros(count, dtype=np.int64)
    for j in range(length):
        rows = np.flatnonzero(signs[:, j] > 0)
        opened[rows, depth[rows]] = j
        depth[rows] += 1
        rows = np.flatnonzero(signs[:, j] < 0)
        depth[rows] -= 1
        i = opened[rows, depth[rows]]
        found[rows, j], found[rows, i] = i, j
    return found


def structures(folds: list[tuple[str, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Dot-brackets to +1, -1, 0 (float32), and energies to the positive kcal/mol per base that stage two predicts."""
    signs = np.array([[PAIRS[mark] for mark in marks] for marks, _ in folds], dtype=np.float32)
    return signs, np.array([-energy for _, energy in folds], dtype=np.float32) / signs.shape[1]


def pairs(signs: np.ndarray) -> set[tuple[int, int]]:
    """Base pairs that a row of rounded signs spells, reading it as brackets; unmatched ones are left out."""
    stack, found = [], set()
    for j, sign in enumerate(signs):
        if sign > 0:
            stack.append(j)
        elif sign < 0 and stack:
            found.add((stack.pop(), j))
    return found


def structure_figures(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Mean squared error, share of positions whose rounded sign is right, and F1 of base pairs."""
    rounded = np.rint(predicted)
    both = [(pairs(p), pairs(t)) for p, t in zip(rounded, truth, strict=True)]
    hits = sum(len(p & t) for p, t in both)
    total = sum(len(p) + len(t) for p, t in both)
    return {
        "error": float(np.mean((predicted - truth) ** 2)),
        "position_accuracy": float(np.mean(rounded == truth)),
        "pair_f1": 2 * hits / max(total, 1),
    }


def _put(module: nnx.Module, folder: Path) -> None:
    tree = weights.restore(folder)
    for kind, key in ((nnx.Param, "params"), (nnx.BatchStat, "stats")):
        if key in tree:
            nnx.update(module, fill(nnx.state(module, kind), tree[key]))


def _folded(sources: Sources, out: Path, background: int, processes: int, log: Callable[[str], None]) -> Batch:
    """Windows with ViennaRNA's structure and energy (37 degrees), made once and kept."""
    path = out / "folded.npz"
    if not path.is_file():
        corpus = read_corpus(sources, out)
        wanted = {"train": background, "validation": background // 16, "test": background // 16}
        examples = draw_examples(corpus, copies=1, background=wanted)
        log(f"folding {len(examples)} windows with ViennaRNA")
        with ViennaFolder(processes) as folder:
            signs, energy = structures(folder.fold([_letters(row) for row in examples.codes]))
        examples.save(path, structure=signs.astype(np.int8), energy=energy)
    return dict(np.load(path))


def _letters(codes: np.ndarray) -> str:
    return decode(codes).decode()


def _structure_data(
    model: Any, sources: Sources, out: Path, folded: int, negatives: int, copies: int, processes: int, log: Any
) -> Any:
    data = _folded(sources, out, folded, processes, log)
    arrays = {
        "codes": data["codes"],
        "target": data["structure"].astype(np.float32),
        "partner": partners(data["structure"]),
        "positive": data["label"] == PRECURSOR,
        "part": data["part"],
    }

    def score(found: np.ndarray, held: Batch) -> dict[str, float]:
        chosen = held["positive"]
        figures = structure_figures(found[chosen], held["target"][chosen])
        return figures | {"background_error": float(np.mean((found - held["target"])[~chosen] ** 2))}

    return arrays, score, "pair_f1"


def _energy_data(
    model: Any, sources: Sources, out: Path, folded: int, negatives: int, copies: int, processes: int, log: Any
) -> Any:
    data = _folded(sources, out, folded, processes, log)
    arrays = {
        "codes": data["codes"],
        "structure": predicted_structure(model, data["codes"], out / "folded_structure.npy", log),
        "target": data["energy"],
        "positive": data["label"] == PRECURSOR,
        "part": data["part"],
    }

    def score(found: np.ndarray, held: Batch) -> dict[str, float]:
        chosen = held["positive"]
        return {
            "r_precursors": float(np.corrcoef(found[chosen], held["target"][chosen])[0, 1]),
            "r_all": float(np.corrcoef(found, held["target"])[0, 1]),
        }

    return arrays, score, "r_precursors"


def _classifier_data(
    model: Any, sources: Sources, out: Path, folded: int, negatives: int, copies: int, processes: int, log: Any
) -> Any:
    path = out / "classes.npz"
    if not path.is_file():
        corpus = read_corpus(sources, out)
        wanted = {"train": negatives, "validation": negatives // 8}
        examples = draw_examples(corpus, copies=copies, background=wanted, seed=1)
        examples = examples.take(examples.part < 2)
        log(f"drew {len(examples)} windows")
        examples.save(path)
    data = dict(np.load(path))
    signs = predicted_structure(model, data["codes"], out / "classes_structure.npy", log)
    arrays = {
        "codes": data["codes"],
        "structure": signs,
        "energy": runner(model.energy)({"codes": data["codes"], "structure": signs}),
        "positive": data["label"] == PRECURSOR,
        "part": data["part"],
    }

    def score(found: np.ndarray, held: Batch) -> dict[str, float]:
        ranking = found[:, 0] - found[:, 1]
        truth = held["positive"]
        return {
            "average_precision": average_precision(truth, ranking),
            "max_f1": max_f1(truth, ranking)[0],
            "positives": int(truth.sum()),
            "negatives": int((~truth).sum()),
        }

    return arrays, score, "average_precision"


def predicted_structure(model: Any, codes: np.ndarray, path: Path, log: Callable[[str], None]) -> np.ndarray:
    """What the frozen first stage says of many windows, float32 like ``codes``; computed once, in resumable blocks."""
    block = 8192
    done = np.load(path) if path.is_file() else np.empty((0, codes.shape[1]), dtype=np.float16)
    predict = runner(model.structure)
    while len(done) < len(codes):
        log(f"predicting structures: {len(done)} of {len(codes)}")
        rows = predict({"codes": codes[len(done) : len(done) + block]}).astype(np.float16)
        done = np.concatenate([done, rows])
        save_array(path, done)
    return done.astype(np.float32)


_PREPARE: dict[str, Callable[..., tuple[Batch, Callable[..., dict[str, float]], str]]] = {
    "structure": _structure_data,
    "energy": _energy_data,
    "classifier": _classifier_data,
}
