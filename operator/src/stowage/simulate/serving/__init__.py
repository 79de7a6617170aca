"""Replay of requests against scaling policies: engines with continuous batching, a router, cold starts, scrapes."""
