"""What the tests of networks share: modules with weights of a test's own drawing, and what they make of arrays."""

import jax
import numpy as np
from flax import nnx

from mirscan.models import drawn


def module_of(build, draw):
    """A module in eval mode; ``draw`` gives the values of a parameter or statistic by its path and shape."""
    graph, state = drawn(lambda rngs: build(rngs=rngs), draw)
    return nnx.merge(graph, jax.device_put(state))


def outputs(module, *inputs):
    """What the module makes of NumPy arrays, compiled as in a scan."""
    return np.asarray(jax.jit(module)(*jax.device_put(inputs)))
