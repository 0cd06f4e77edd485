"""Trainings: the loop, the losses, one module for each recipe."""
