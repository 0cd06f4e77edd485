"""Loops over bases and windows (Numba). Wrappers check their arguments, kernels trust them."""
