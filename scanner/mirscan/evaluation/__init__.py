"""Calls against known hairpins, and rankings: pure figures, no files."""
