"""Faults put between the processes and the API server: a proxy that obeys scripts, and what is tested with it."""
