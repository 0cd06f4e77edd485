"""The table of models: a plain dict of rows, and how to load one with its weights."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from mirscan.checkpoints import weights
from mirscan.errors import InputError
from mirscan.models import cnn_lstm, deepmir_image, deepmir_seq, deepmirgene, duplex, mirdnn, mire2e, mirtron_cnn
from mirscan.types import ModelSpec

FAMILIES = (mire2e, duplex, mirdnn, deepmirgene, deepmir_image, deepmir_seq, cnn_lstm, mirtron_cnn)
MODELS: dict[str, ModelSpec] = {name: row for family in FAMILIES for name, row in family.MODELS.items()}


def find_model(name: str) -> ModelSpec:
    """The row of a model.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=3) or ["duplex", "mire2e"]
        raise InputError(f"unknown model {name!r}; `mirscan models` shows all {len(MODELS)}, such as {', '.join(near)}")
    return MODELS[name]


def load_model(name: str, folder: Path | None = None, *, precision: str = "float32") -> tuple[Any, Any]:
    """Build a model and fill it with its weights.

    Returns
    -------
    graph : flax.nnx.GraphDef
    state : flax.nnx.State
        Parameters and batch statistics as NumPy arrays: ``nnx.merge(graph, state)`` is the module, in eval mode.

    Raises
    ------
    InputError
        If the weights are missing, damaged, or of another model.
    """
    graph, shapes = _row(name, precision)
    folder = weights.find(name) if folder is None else folder
    tree = weights.restore(folder)
    try:
        return graph, fill(shapes, tree)
    except ValueError as error:
        raise InputError(f"{folder}: not weights of {name}: {error}") from error


def compiled_model(name: str, folder: Path | None = None) -> Callable[..., jax.Array]:
    """A model with its weights as a compiled function: inputs to scores, float32 (rows,).

    Raises
    ------
    InputError
        As `load_model`.
    """
    spec = find_model(name)
    graph, state = jax.device_put(load_model(name, folder))
    return jax.jit(lambda *inputs: spec.score(nnx.merge(graph, state)(*inputs)))


def filled(build: Callable[[Any], Any], tree: dict[str, Any]) -> tuple[Any, Any]:
    """Graph and state of a module in eval mode with given weights; no random ones are made on the way.

    Parameters
    ----------
    build : callable
        ``flax.nnx.Rngs`` to module.
    tree : dict
        Parameters and batch statistics.

    Raises
    ------
    ValueError
        If names or shapes differ.
    """
    graph, shapes = _skeleton(build)
    return graph, fill(shapes, tree)


def drawn(build: Callable[[Any], Any], draw: Callable[[str, tuple[int, ...]], np.ndarray]) -> tuple[Any, Any]:
    """As `filled`, with weights by a rule: Flax's own are compiled one by one, for ten seconds where there are many.

    Parameters
    ----------
    build : callable
        ``flax.nnx.Rngs`` to module.
    draw : callable
        Path, such as ``['front']['bias'].value``, and shape of a parameter or batch statistic to its values.
    """

    def leaf(path: tuple[Any, ...], wanted: Any) -> np.ndarray:
        return np.asarray(draw(jax.tree_util.keystr(path), wanted.shape), np.float32)

    graph, shapes = _skeleton(build)
    return graph, jax.tree_util.tree_map_with_path(leaf, shapes)


def untrained_model(name: str, *, precision: str = "float32", seed: int = 0) -> tuple[Any, Any]:
    """As `load_model`, with random weights: for speed, which does not depend on them, and for tests."""
    spec, random = find_model(name), np.random.default_rng(seed)

    def draw(path: str, shape: tuple[int, ...]) -> np.ndarray:
        if "scale" in path or "var" in path:
            return np.ones(shape)
        spread = 1 / np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 0.1
        return np.asarray(spread * random.standard_normal(shape))

    return drawn(lambda rngs: spec.build(rngs=rngs, precision=precision), draw)


@functools.cache
def _row(name: str, precision: str) -> tuple[Any, Any]:
    """`_skeleton` of a row of the table, kept: to trace a module takes Flax half a second and more."""
    spec = find_model(name)
    return _skeleton(lambda rngs: spec.build(rngs=rngs, precision=precision))


class _Still(nnx.RngStream):
    """One key for all, where only shapes are wanted: half of the time of a tracing goes into the counting of keys."""

    def __call__(self) -> jax.Array:
        return self.key[...]


def _skeleton(build: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Graph of a module in eval mode, and a state that holds shapes instead of values."""

    def abstract() -> Any:
        rngs = nnx.Rngs(0)
        rngs.default = _Still(0, tag="default")  # type: ignore[attr-defined]
        return build(rngs)

    model = nnx.eval_shape(abstract)
    model.eval()
    nnx.pop(model, nnx.RngState)  # dropout's keys: nothing draws random numbers here
    return nnx.split(model)


def set_weights(module: Any, tree: dict[str, Any]) -> None:
    """Put a plain tree of parameters and batch statistics into a module.

    Raises
    ------
    ValueError
        If names or shapes differ.
    """
    nnx.update(module, fill(nnx.state(module, (nnx.Param, nnx.BatchStat)), tree))


def plain(state: Any) -> dict[str, Any]:
    """An NNX state as a nested dict of NumPy arrays with string keys, as checkpoints hold it."""

    def walk(tree: Any) -> Any:
        return {str(k): walk(v) for k, v in tree.items()} if isinstance(tree, dict) else np.asarray(tree)

    return dict(walk(nnx.to_pure_dict(state)))


def fill(state: Any, tree: dict[str, Any]) -> Any:
    """A copy of an NNX state with the values of a checkpoint.

    Raises
    ------
    ValueError
        If names or shapes differ.
    """

    def walk(wanted: Any, found: Any, path: str) -> Any:
        if not isinstance(wanted, dict):
            if isinstance(found, dict) or wanted.shape != found.shape:
                raise ValueError(f"{path} has another shape than {wanted.shape}")
            return found
        keys = {str(key): key for key in wanted}
        if not isinstance(found, dict) or keys.keys() != found.keys():
            odd = sorted(keys.keys() ^ set(found if isinstance(found, dict) else ()))
            raise ValueError(f"{path or 'the model'} differs in {', '.join(odd[:3])}")
        return {key: walk(wanted[key], found[name], f"{path}/{name}") for name, key in keys.items()}

    filled = jax.tree.map(lambda leaf: leaf, state)
    nnx.replace_by_pure_dict(filled, walk(nnx.to_pure_dict(state), tree, ""))
    return filled
