"""Decisions as pure functions: facts, time and seeds come in, values with reasons come out."""
