"""Observing engines that serve models: by which names their series go, how they are asked for, what they say."""
