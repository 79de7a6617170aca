"""From means of whole runs to step times.

In a steady state each second holds as many decode steps as fit beside the prompts, so that the mean time between
tokens is `itl = base + a * running + b * kv_tokens + p * prompt tokens per step`, and the prompt tokens per step are
the arriving requests' per second times `itl`. Of all that only the four coefficients are not measured: they follow by
least squares (own derivation; the step's form is that of DistServe, OSDI'24).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stowage.decide.serving.performance import DEFAULT_RUNNING, Performance, constant, line
from stowage.decide.serving.performance_fit import Floats, nonnegative_fit
from stowage.simulate.serving.csv_files import Row

_MILLI = 1e-3
_LEAST_SHARE = 0.05
_LONE = 8


def fit_concurrency(rows: Sequence[Row], kv_capacity_tokens: int) -> Performance:
    """From runs in which a fixed number of requests is always in the engine (AIConfigurator's samples).

    Args:
        rows: with `isl`, `osl`, `batch_size`, `silicon_ttft_ms`, `silicon_tpot_ms` of one replica.
        kv_capacity_tokens: of that replica.
    """
    prompts, outputs, batch, ttft, itl = (
        np.array([float(row[name]) for row in rows])
        for name in ("isl", "osl", "batch_size", "silicon_ttft_ms", "silicon_tpot_ms")
    )
    ttft, itl = _MILLI * ttft, _MILLI * itl
    per_second = batch / (ttft + (outputs - 1.0) * itl)
    running = batch * (outputs - 1.0) * itl / (ttft + (outputs - 1.0) * itl)
    running = np.maximum(running, 1.0)
    base, per_running, per_kv, per_prompt = _coefficients(
        running, running * (prompts + outputs / 2.0), per_second * prompts * itl, itl
    )
    least = _LEAST_SHARE * float(itl.min())
    base, per_prompt = max(base, least), max(per_prompt, 1e-9)
    lone = batch <= _LONE
    left = (ttft - base - per_prompt * prompts)[lone]
    return Performance(
        prefill_seconds=line(base, per_prompt),
        decode_seconds=line(base, per_running),
        kv_capacity_tokens=kv_capacity_tokens,
        decode_seconds_per_kv_token=constant(per_kv),
        max_running=int(min(max(batch.max(), 1), 1024)),
        overhead_seconds=max(0.0, float(left.min())) if lone.any() else 0.0,
    )


def fit_rates(rows: Sequence[Row], kv_capacity_tokens: int) -> Performance:
    """From runs with a fixed rate and equal requests (inference-perf).

    Where all requests are alike, prompts and outputs can not be told apart: a token is taken to cost the same in both,
    for both go through the same layers. A run that did not keep up tells how many sequences run at once. The time
    between tokens is taken from end to end and first token: what the client counts as such are pieces of the stream,
    and it may get two for a token (a median of 34 microseconds tells so).

    Args:
        rows: stages of one configuration.
        kv_capacity_tokens: of the replica.
    """
    names = ("requested_rps", "achieved_rps", "completed_rps", "input_tok_per_s", "output_tok_per_s")
    requested, achieved, completed, prompts, outputs = (np.array([float(row[name]) for row in rows]) for name in names)
    ttft, end_to_end = (np.array([float(row[name]) for row in rows]) for name in ("ttft_mean_s", "e2e_mean_s"))
    prompt_tokens, output_tokens = prompts / completed, outputs / completed
    itl = (end_to_end - ttft) / np.maximum(1.0, output_tokens - 1.0)
    if (itl <= 0).any():
        raise ValueError("e2e_mean_s is not more than ttft_mean_s")
    running = np.maximum(1.0, completed * (output_tokens - 1.0) * itl)
    matrix = np.column_stack([np.ones(len(rows)), running + prompts * itl]) / itl[:, None]
    base, per_token = (float(one) for one in nonnegative_fit(matrix, np.ones(len(rows))))
    base, per_token = max(base, _LEAST_SHARE * float(itl.min())), max(per_token, 1e-9)
    full = (achieved < 0.95 * requested) | (completed < 0.95 * requested)
    lone = int(requested.argmin())
    overhead = float(ttft[lone] - base - per_token * prompt_tokens[lone])
    return Performance(
        prefill_seconds=line(base, per_token),
        decode_seconds=line(base, per_token),
        kv_capacity_tokens=kv_capacity_tokens,
        max_running=max(1, round(float(running[full].max()))) if full.any() else DEFAULT_RUNNING,
        overhead_seconds=max(0.0, overhead),
    )


def _coefficients(
    running: Floats, kv_tokens: Floats, prompt_tokens: Floats, seconds: Floats
) -> tuple[float, float, float, float]:
    matrix = np.column_stack([np.ones(len(seconds)), running, kv_tokens, prompt_tokens]) / seconds[:, None]
    base, per_running, per_kv, per_prompt = nonnegative_fit(matrix, np.ones(len(seconds)))
    return float(base), float(per_running), float(per_kv), float(per_prompt)
