"""Replay of recorded workloads against placement policies, without a cluster."""
