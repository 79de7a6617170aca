"""Stowage: packs, heals and scales AI workloads on Kubernetes."""

__version__ = "0.1.0"
