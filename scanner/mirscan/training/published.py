"""How the published models were trained: a row a family, from the papers and, where these are silent, their code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mirscan.errors import UsageError
from mirscan.training.loop import Recipe
from mirscan.training.losses import class_cross_entropy, class_focal_loss, class_squared_error


@dataclass(frozen=True)
class Published:
    """A published training: its recipe, its loss, and whether the best or the last weights are taken."""

    recipe: Recipe
    loss: Callable[..., Any] = class_cross_entropy
    balanced: bool = False
    """Whether both classes count the same in the loss."""
    recurrent: bool = False
    """Whether inputs end together and begin with padding, 0: those of long molecules may be computed apart."""
    validation: float = 0.0
    """Share of the examples that is set aside; the weights that rank it best are taken. 0 takes the last ones."""


def adam(batch: int, epochs: int, rate: float = 1e-3, **options: Any) -> Recipe:
    """Adam at a fixed rate."""
    return Recipe(batch, epochs, rate, warmup=None, weight_decay=0.0, clip=None, **options)


PUBLISHED = {
    # the batch of the scripts, not the 128 of the paper; their class weights never took effect
    "deepmirgene": Published(adam(256, 300), recurrent=True),
    "deepmirgene2016": Published(adam(128, 500), class_squared_error, recurrent=True),
    "deepmir-seq": Published(adam(64, 5)),
    "deepmir": Published(adam(128, 100, optimiser="keras")),
    "cnn-lstm": Published(adam(6, 30)),
    "mirtron": Published(adam(18, 250)),  # 10,000 steps on 723 sequences
    "mirdnn": Published(
        Recipe(1024, 100, 5e-3, warmup=None, weight_decay=1e-5, clip=None, optimiser="radam"),
        class_focal_loss,
        validation=0.1,
    ),
}
"""By the beginning of a model's name: the longest that fits."""


def published(name: str) -> Published:
    """The published training of a model.

    Raises
    ------
    UsageError
        If it is trained otherwise.
    """
    families = [family for family in PUBLISHED if name == family or name.startswith(f"{family}-")]
    if not families:
        raise UsageError(f"model {name!r} does not learn from a table; there are: {', '.join(PUBLISHED)}")
    return PUBLISHED[max(families, key=len)]
