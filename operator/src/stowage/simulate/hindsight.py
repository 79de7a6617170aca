"""The most that any schedule of recorded jobs could have held, known from hindsight: a proven bound.

For every instant s: until s no more GPU time is held than if every job had started as it came, and after s no more
than all GPUs all the time. The least over all s is the bound: it binds schedules that know all jobs beforehand, and
even those that spread a job over any GPUs. What a policy stays below it is its regret at most (Hindsight Learning:
Sinclair et al., ICML'23, compare on-line decisions with those of hindsight in the same way).
"""

from __future__ import annotations

from collections.abc import Sequence

from stowage.simulate.jobs import Job

_MILLI_SECONDS_PER_GPU_HOUR = 3_600_000


def most_gpu_hours(jobs: Sequence[Job], gpu_milli: int) -> float:
    """Bound of the GPU hours that jobs hold until the last arrival on so many thousandths of GPUs."""
    return most_milli_seconds(jobs, gpu_milli) / _MILLI_SECONDS_PER_GPU_HOUR


def most_milli_seconds(jobs: Sequence[Job], gpu_milli: int) -> int:
    """The same in seconds of a thousandth of a GPU, as an exact int."""
    if not jobs:
        return 0
    start, end = min(job.arrival_seconds for job in jobs), max(job.arrival_seconds for job in jobs)
    changes: dict[int, int] = {start: 0, end: 0}
    for job in jobs:
        changes[job.arrival_seconds] = changes.get(job.arrival_seconds, 0) + job.gpu_milli
        leaves = job.arrival_seconds + job.duration_seconds
        if leaves < end:
            changes[leaves] = changes.get(leaves, 0) - job.gpu_milli
    held = rate = 0
    best = gpu_milli * (end - start)
    before = start
    for now in sorted(changes):
        held += rate * (now - before)
        best = min(best, held + gpu_milli * (end - now))
        rate += changes[now]
        before = now
    return best
