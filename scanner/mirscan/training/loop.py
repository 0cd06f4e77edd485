"""The optax loop: one page, for every model and stage. `fit` resumes where a killed run left off."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mirscan.checkpoints import weights
from mirscan.errors import UsageError
from mirscan.files.atomic import append_line
from mirscan.files.folders import claim
from mirscan.files.kinds import TRAINING
from mirscan.models import fill, plain
from mirscan.training.losses import LONG

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class Recipe:
    """How a stage is trained. One epoch sees every example once, or as many as ``epoch_size`` draws."""

    batch: int
    epochs: int
    learning_rate: float
    warmup: int | None = 500
    """Steps of linear warm-up; the rate then falls to zero along a cosine. None keeps it as it is."""
    weight_decay: float = 1e-4
    clip: float | None = 1.0
    """Largest global norm of a gradient."""
    optimiser: Literal["adamw", "radam", "keras"] = "adamw"
    """AdamW is Adam where nothing decays; RAdam: Liu et al. 2020, arXiv 1908.03265; `keras_adam`, without decay."""
    dropout: bool = True
    positive_share: float | None = None
    """Class-balanced batches: this share of each batch is drawn from the positives; None takes all as they come."""
    epoch_size: int | None = None
    seed: int = 0


def fit(
    module: nnx.Module,
    loss: Callable[[Any, dict[str, jax.Array]], jax.Array],
    data: Batch,
    recipe: Recipe,
    folder: Path | None,
    *,
    evaluate: Callable[[Callable[[Batch], np.ndarray], int], dict[str, float]] = lambda predict, epoch: {},
    better: str | None = None,
    log: Callable[[str], None],
    examples: str = "",
    save_seconds: float = 60.0,
) -> dict[str, Any]:
    """Train a module and return its best weights, or its last ones, as a plain tree.

    Parameters
    ----------
    loss : callable
        ``(module, batch) -> float32 ()``; the batch is on the devices, and its ``draw`` (uint32) seeds what is
        random in a loss: another number each step.
    data : dict of arrays with equal first axis
        Training examples; ``positive`` (bool) is needed for balanced batches.
    folder : Path, optional
        ``state`` (to resume from), ``best`` and ``log.jsonl`` are kept here; without one nothing is, and a killed run
        begins again.
    evaluate : callable
        Given ``predict`` and the epoch, returns validation figures.
    better : str, optional
        The figure whose highest value tells which weights are taken; without one it is the last ones.
    examples : str
        Names the examples: a training does not go on with those of another name.
    save_seconds : float
        How often the state is saved at most: what a killed run loses.

    Raises
    ------
    UsageError
        If the folder holds a training by another recipe, on other examples or of more epochs.
    InputError
        If the folder holds something else than a training.
    """
    # ------------------------------------------------------------------ devices: data parallel over accelerators
    # The cores of a CPU share one matrix product instead: XLA's CPU collectives abort when a busy machine keeps
    # one of the host devices waiting.
    devices = jax.local_devices()
    devices = devices[:1] if devices[0].platform == "cpu" else devices
    if recipe.batch % len(devices):
        raise ValueError(f"batch {recipe.batch} is not a multiple of {len(devices)} devices")
    mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
    everywhere = NamedSharding(mesh, PartitionSpec())
    spread = NamedSharding(mesh, PartitionSpec("data"))

    # ------------------------------------------------------------------ module, optimiser
    module.train()
    if not recipe.dropout:
        module.set_attributes(deterministic=True, raise_if_not_found=False)
    parts: Any = nnx.split(module, nnx.Param, nnx.BatchStat, nnx.RngCount, ...)
    graph, params, stats, counts, keys = parts  # of dropout, which draws by key and count
    size = recipe.epoch_size or len(next(iter(data.values())))
    steps = max(1, size // recipe.batch)
    total = steps * recipe.epochs
    optimiser = _optimiser(recipe, total)
    state = (params, stats, optimiser.init(params), counts)

    @jax.jit
    def step(state: Any, batch: dict[str, jax.Array], number: int) -> tuple[Any, jax.Array]:
        params, stats, memory, counts = state
        batch = batch | {"draw": jnp.uint32(recipe.seed) * jnp.uint32(1 << 20) + jnp.uint32(number)}

        def objective(params: Any) -> tuple[jax.Array, Any]:
            inner = nnx.merge(graph, params, stats, counts, keys, copy=True)
            value = loss(inner, batch)
            parts: Any = nnx.split(inner, nnx.Param, nnx.BatchStat, nnx.RngCount, ...)
            return value, parts[2:4]

        (value, (stats, counts)), gradient = jax.value_and_grad(objective, has_aux=True)(params)
        updates, memory = optimiser.update(gradient, memory, params)
        return (optax.apply_updates(params, updates), stats, memory, counts), value

    # ------------------------------------------------------------------ resume
    done, best = 0, -np.inf
    chosen: dict[str, Any] = {}
    if folder is not None:
        claim(folder, TRAINING)
    if folder is not None and weights.recover(folder / "state"):
        about = weights.describe(folder / "state")
        _check_same(about, recipe, examples, steps, folder)
        saved = weights.restore(folder / "state")
        memory = jax.tree.unflatten(jax.tree.structure(state[2]), [saved["memory"][k] for k in _keys(saved["memory"])])
        drawn = fill(counts, saved["counts"]) if "counts" in saved else counts
        state = (fill(params, saved["params"]), fill(stats, saved.get("stats", {})), memory, drawn)
        done, best = about["done"], about["best"]
        log(f"resumed at step {done} of {total}")
    state = jax.device_put(state, everywhere)

    def keep(name: str, **more: Any) -> None:
        params, stats, memory, counts = state
        tree: dict[str, Any] = {"params": plain(params), "stats": plain(stats)}
        if name == "best":
            chosen.update(tree)
        if folder is None:
            return
        if name == "state":
            tree["counts"] = plain(counts)
            tree["memory"] = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(memory))}
        about = {"recipe": asdict(recipe), "examples": examples, **more}
        weights.save(folder / name, {k: v for k, v in tree.items() if v}, about)

    # ------------------------------------------------------------------ epochs
    started, before, losses = time.time(), done, []
    saved_at = started
    for epoch in range(done // steps, recipe.epochs):
        order = _order(data, recipe, epoch, size)
        for number in range(done - epoch * steps, steps):
            rows = order[number * recipe.batch : (number + 1) * recipe.batch]
            batch = jax.device_put({name: array[rows] for name, array in data.items()}, spread)
            state, value = step(state, batch, done)
            losses.append(value)
            done += 1
            if done % steps and time.time() - saved_at >= save_seconds:
                recent = float(np.mean(jax.device_get(losses[-100:])))
                speed = (done - before) * recipe.batch / (time.time() - started)
                log(f"step {done}/{total} loss {recent:.5f} {speed:.0f} rows/s")
                keep("state", done=done, best=best)
                saved_at = time.time()
        figures = evaluate(predictor(graph, state, keys), epoch)
        entry = {"epoch": epoch + 1, "steps": done, "loss": float(np.mean(jax.device_get(losses[-steps:])))} | figures
        if folder is not None:
            append_line(folder / "log.jsonl", json.dumps(entry))
        log(" ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in entry.items()))
        if better is not None and figures[better] > best:
            best = figures[better]
            keep("best", figures=entry)
        elif better is None and done == total:
            keep("best", figures={})
        if better is not None or done == total or time.time() - saved_at >= save_seconds:
            keep("state", done=done, best=best)
            saved_at = time.time()
    return _merge(chosen["params"], chosen["stats"]) if folder is None else best_weights(folder)


def _check_same(about: dict[str, Any], recipe: Recipe, examples: str, steps: int, folder: Path) -> None:
    """Raise UsageError where what is known of a training in ``folder`` forbids to go on as is wished."""
    changed = {key for key, value in asdict(recipe).items() if about["recipe"].get(key) != value}
    if recipe.warmup is None:
        changed -= {"epochs"}  # without a schedule, whose end they set, they may be added
    if changed:
        what = ", ".join(sorted(changed))
        raise UsageError(f"{folder}: was begun by another recipe ({what}); choose another folder")
    if about.get("examples", examples) != examples:
        raise UsageError(f"{folder}: was begun on other examples; choose another folder")
    if about["done"] > steps * recipe.epochs:
        epochs = about["done"] // steps
        raise UsageError(
            f"{folder}: has {epochs} epochs already, and {recipe.epochs} are asked for; choose another folder"
        )


def _optimiser(recipe: Recipe, total: int) -> optax.GradientTransformation:
    """The optimiser of a recipe for so many steps."""
    rate: Any = recipe.learning_rate
    if recipe.warmup is not None:
        rate = optax.warmup_cosine_decay_schedule(0.0, rate, min(recipe.warmup, total // 2), total)
    clip = optax.identity() if recipe.clip is None else optax.clip_by_global_norm(recipe.clip)
    if recipe.optimiser == "radam":
        return optax.chain(clip, optax.add_decayed_weights(recipe.weight_decay), optax.radam(rate))
    if recipe.optimiser == "keras":
        return optax.chain(clip, keras_adam(), optax.scale_by_learning_rate(rate))
    return optax.chain(clip, optax.adamw(rate, weight_decay=recipe.weight_decay))


def keras_adam(fall: float = 0.9, square_fall: float = 0.999, epsilon: float = 1e-7) -> optax.GradientTransformation:
    """Adam as Keras has it since 2.1: epsilon joins a root that is not yet corrected for its bias.

    Kingma & Ba 2015, end of section 2 (epsilon hat). In the first steps this epsilon weighs 300 times as much as the
    default of Optax, later ten times: where a gradient is small, so are the steps.
    """

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        count = state.count + 1
        mean = jax.tree.map(lambda m, g: fall * m + (1 - fall) * g, state.mu, gradient)
        square = jax.tree.map(lambda v, g: square_fall * v + (1 - square_fall) * g**2, state.nu, gradient)
        rate = jnp.sqrt(1 - square_fall**count) / (1 - fall**count)
        steps = jax.tree.map(lambda m, v: rate * m / (jnp.sqrt(v) + epsilon), mean, square)
        return steps, optax.ScaleByAdamState(count=count, mu=mean, nu=square)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


def best_weights(folder: Path) -> dict[str, Any]:
    """Parameters and batch statistics of a finished training, as a plain tree."""
    chosen = weights.restore(folder / "best")
    return _merge(chosen["params"], chosen.get("stats", {}))


def predictor(graph: Any, state: Any, keys: Any, rows: int = 32) -> Callable[[Batch], np.ndarray]:
    """A function that runs a module in eval mode over any number of examples, in steps of a fixed shape."""
    params, stats, _, counts = state
    model = nnx.merge(graph, params, stats, counts, keys, copy=True)
    model.eval()
    return runner(model, rows)


def runner(model: nnx.Module, rows: int = 32) -> Callable[[Batch], np.ndarray]:
    """As `predictor`, for a module that is already in eval mode; positional arguments in the order of the dict."""
    graph, values = nnx.split(model)
    local = jax.local_devices()
    mesh = jax.make_mesh((len(local),), ("data",), axis_types=(AxisType.Auto,))
    spread = NamedSharding(mesh, PartitionSpec("data"))
    values = jax.device_put(values, NamedSharding(mesh, PartitionSpec()))
    apply = jax.jit(lambda values, inputs: nnx.merge(graph, values)(*inputs))
    rows *= len(local)

    def predict(batch: Batch) -> np.ndarray:
        total = len(next(iter(batch.values())))
        out = []
        for start in range(0, total, rows):
            pieces = [array[start : start + rows] for array in batch.values()]
            missing = rows - len(pieces[0])
            padded = [np.pad(p, [(0, missing)] + [(0, 0)] * (p.ndim - 1)) for p in pieces]
            out.append(apply(values, tuple(jax.device_put(padded, spread)))[: rows - missing])
        return np.concatenate(jax.device_get(out))

    return predict


def _order(data: Batch, recipe: Recipe, epoch: int, size: int) -> np.ndarray:
    """Row numbers of an epoch, a new order each; balanced batches repeat the rarer class.

    Where ``data`` tells which examples are ``long``, every batch has as many of them, and they are its last rows.
    """
    generator = np.random.default_rng((recipe.seed, epoch))
    if recipe.positive_share is None:
        rows = generator.permutation(len(next(iter(data.values()))))[:size]
        if "long" not in data:
            return rows
        steps = max(1, size // recipe.batch)
        long = np.array_split(rows[data["long"][rows]], steps)
        if len(long[0]) > recipe.batch // LONG:
            raise ValueError(f"{len(long[0])} long examples in a batch of {recipe.batch}: at most one in {LONG}")
        ends = np.cumsum([recipe.batch - len(some) for some in long])
        short = np.split(rows[~data["long"][rows]], ends)
        return np.concatenate([part for both in zip(short, long, strict=False) for part in both])
    positive = np.flatnonzero(data["positive"])
    negative = np.flatnonzero(~data["positive"])
    each = round(recipe.batch * recipe.positive_share)
    batches = size // recipe.batch
    chosen = [_cycle(generator, positive, batches * each), _cycle(generator, negative, batches * (recipe.batch - each))]
    return np.concatenate([c.reshape(batches, -1) for c in chosen], axis=1).reshape(-1)


def _cycle(generator: np.random.Generator, rows: np.ndarray, count: int) -> np.ndarray:
    rounds = [generator.permutation(rows) for _ in range(-(-count // len(rows)))]
    return np.concatenate(rounds)[:count]


def _keys(tree: dict[str, Any]) -> list[str]:
    return sorted(tree, key=int)


def _merge(first: Any, second: Any) -> Any:
    if not isinstance(first, dict):
        return first
    return {
        key: _merge(first[key], second[key]) if key in first and key in second else first.get(key, second.get(key))
        for key in (*first, *(k for k in second if k not in first))
    }
