"""Packing decisions for Kubernetes clusters: facts in, plans out, no I/O."""
