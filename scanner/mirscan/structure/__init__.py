"""Bases to stem-loops: folding, the recurrence on cores and accelerators, proposals."""
