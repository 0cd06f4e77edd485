"""Shipped weights and the code that finds, verifies, restores and saves them."""
