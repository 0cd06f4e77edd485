"""The one decorator of every kernel."""

from collections.abc import Callable
from typing import Any

import numba


def kernel() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a loop with Numba: cached on disk, without the GIL, IEEE arithmetic.

    ``fastmath`` stays off: it lets the compiler reorder sums and drop NaN, and NaN means "not scored" here.
    """
    return numba.njit(nogil=True, cache=True, fastmath=False)
