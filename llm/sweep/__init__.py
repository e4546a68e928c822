"""Sweeps: the points of a space of params, what came of them, and the page that compares them."""
