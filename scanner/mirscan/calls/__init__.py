"""Scores to loci: calls of windows and of hairpins, their precision, homology and flags."""
