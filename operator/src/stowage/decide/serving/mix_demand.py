"""From requests and measured replicas to what a mix is chosen from: buckets by size, and what a replica serves of each.

A bucket's sizes are those of its place in the grid and not those of its requests, so that what a replica serves of it
does not change as demand does: the table is worked out once for a profile and its targets, the mix every few minutes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stowage.decide.serving.capacity import Shape, Targets, capacity
from stowage.decide.serving.mix_problem import Bucket
from stowage.decide.serving.performance import Performance
from stowage.decide.serving.plan_serving import Rate

INPUT_EDGES: Final = (0, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
OUTPUT_EDGES: Final = (0, 64, 128, 256, 512, 1024)
"""Ten by five buckets; what is longer counts with the last of them."""
SHARE_OF_CLOSED_FORM: Final = 0.75
"""Of what the closed form allows for requests that are alike, what a replica serves of them among others: played
against the simulated engine, it is a quarter to a third too high where lengths spread."""


def buckets(
    prompt_tokens: NDArray[np.int64],
    output_tokens: NDArray[np.int64],
    seconds: float,
    *,
    input_edges: Sequence[int] = INPUT_EDGES,
    output_edges: Sequence[int] = OUTPUT_EDGES,
) -> tuple[Bucket, ...]:
    """All buckets of the grid, by input and then output, with the requests per second of each.

    A bucket stands between two edges, the lower one not included; all its requests count with the mean of the edges.

    Args:
        prompt_tokens: of each request that came
        output_tokens: and what it generated.
        seconds: in which they came.
        input_edges: rising, from 0 on.
        output_edges: the same.

    Raises:
        ValueError: `seconds` is not more than 0, or edges do not rise.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"requests come within more than 0 seconds, not {seconds:g}")
    rows, columns = _between(prompt_tokens, input_edges), _between(output_tokens, output_edges)
    counts = np.zeros((len(input_edges) - 1, len(output_edges) - 1))
    np.add.at(counts, (rows, columns), 1)
    return tuple(
        Bucket(_middle(inputs), _middle(outputs), float(counts[row, column]) / seconds)
        for row, inputs in enumerate(itertools.pairwise(input_edges))
        for column, outputs in enumerate(itertools.pairwise(output_edges))
    )


def replica_rates(
    sizes: Sequence[Bucket],
    replicas: Sequence[Performance],
    targets: Targets,
    rate: Rate = capacity,
    share: float = SHARE_OF_CLOSED_FORM,
) -> tuple[tuple[float, ...], ...]:
    """`MixProblem.replica_requests_per_second`: of each bucket, what one replica serves within the targets.

    Args:
        sizes: the buckets.
        replicas: the performance of each kind of replica.
        targets: of every request.
        rate: what a replica serves of a bucket alone
        share: and how much of that is counted on, for a replica serves other buckets beside it; 1 for rates that were
            played with all lengths, such as `SimulatedRate`.
    """
    return tuple(
        tuple(
            share * rate(one, Shape(bucket.input_tokens, bucket.output_tokens), targets).requests_per_second
            for one in replicas
        )
        for bucket in sizes
    )


def _between(tokens: NDArray[np.int64], edges: Sequence[int]) -> NDArray[np.int64]:
    if len(edges) < 2 or any(low >= high for low, high in itertools.pairwise(edges)):
        raise ValueError(f"edges rise: {', '.join(map(str, edges))}")
    return np.clip(np.searchsorted(np.asarray(edges), tokens, side="left") - 1, 0, len(edges) - 2)


def _middle(edges: tuple[int, int]) -> int:
    return max(1, sum(edges) // 2)
