"""Solving: counting models, neighbourhood search, bounds."""
