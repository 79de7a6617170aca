"""What measured latencies teach the latency model: one observation per window, only while the load is steady."""

from __future__ import annotations

from dataclasses import replace

from stowage.decide.serving import demand
from stowage.decide.serving.latency_model import WIDE_VARIANCE, LatencyModel, Shape
from stowage.decide.serving.memory import Corrections, Memory
from stowage.decide.serving.misses import mean_itl_seconds
from stowage.decide.serving.performance import Performance
from stowage.decide.serving.settings import Role, Settings
from stowage.decide.serving.view import View

WINDOW_SECONDS = 60.0
LEAST_COVERED = 0.7
LEAST_DECODING = 0.5
KEPT_PROFILES = 8
"""A mix has no more variants; of profiles that were edited only the newest are worth anything."""
LEAST_RUNNING = 1.0
"""Requests per replica; with fewer, samples of who runs say little about the time between tokens."""


def learn_latencies(view: View, settings: Settings, memory: Memory) -> Memory:
    """The memory with the model's corrections brought up to date where a window has gone by since the last time.

    A role that only computes prompts gives no token after the first, and teaches nothing here.
    """
    known, newest = memory.corrections, view.scrapes[-1].at
    if settings.role is Role.PREFILL or (known.learned_at is not None and newest - known.learned_at < WINDOW_SECONDS):
        return memory
    itl = mean_itl_seconds(view, WINDOW_SECONDS + 1)
    requests = view.rate("arrived", WINDOW_SECONDS + 1)
    ready, running = view.mean("ready", WINDOW_SECONDS + 1), view.mean("running", WINDOW_SECONDS + 1)
    tokens, waiting = view.mean("kv_tokens_in_use", WINDOW_SECONDS + 1), view.mean("waiting", WINDOW_SECONDS + 1)
    if not itl or requests is None or not ready or running is None or tokens is None or waiting is None:
        return memory
    if running / ready < LEAST_RUNNING or waiting > ready or not (_is_covered(view) and _is_steady(view)):
        return memory
    model = LatencyModel(settings.performance, known, settings.role)
    shape = demand.shape(memory)
    itl *= _share_of_decoding(model, requests / ready, running / ready, tokens / ready, shape)
    learned = model.learn(itl, requests / ready, running / ready, tokens / ready, shape, newest)
    return replace(memory, corrections=learned.corrections)


def for_profile(memory: Memory, performance: Performance) -> Memory:
    """The memory with corrections of this profile: how far replicas were off another one says nothing of this one.

    Those of the other are set aside: in a mix the slowest variant in use changes with the load, and comes back.
    """
    found = hash(performance)
    if memory.corrected == found:
        return memory
    if memory.corrected is None:
        return replace(memory, corrected=found)
    aside = dict(memory.set_aside) | {memory.corrected: memory.corrections}
    corrections = aside.pop(found, Corrections(variance=(WIDE_VARIANCE, 0.0, WIDE_VARIANCE)))
    kept = tuple(aside.items())[-KEPT_PROFILES:]
    return replace(memory, corrections=corrections, corrected=found, set_aside=kept)


def _share_of_decoding(
    model: LatencyModel, requests_per_second: float, running: float, kv_tokens: float, shape: Shape
) -> float:
    """Of the time between tokens by Little's law over all running requests, what is left for those that decode.

    Requests whose prompt is being computed run, but get no token; and the first token of each comes of its prompt.
    """
    _, prompt_seconds, _ = model.steps(running, kv_tokens, shape)
    decoding = max(LEAST_DECODING, 1 - requests_per_second * prompt_seconds / running)
    return decoding * shape.output_tokens / max(1.0, shape.output_tokens - 1)


def _is_covered(view: View) -> bool:
    """Whether samples cover the window: the mean of few, while who runs still grows, is that of no time."""
    samples = view.within(WINDOW_SECONDS + 1)
    return samples[-1].at - samples[0].at >= LEAST_COVERED * WINDOW_SECONDS


def _is_steady(view: View) -> bool:
    """Whether the same replicas served all the time: those that come or go make means of different things.

    Tokens of those that drain count, and their requests do not: times between tokens would seem to be short.
    """
    samples = view.within(WINDOW_SECONDS + 1)
    return len({one.ready for one in samples}) == 1 and not any(one.draining for one in samples)
