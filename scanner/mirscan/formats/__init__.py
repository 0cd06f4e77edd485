"""Sorted intervals in, file out: each writer works on a temporary file and renames it when it is whole."""
