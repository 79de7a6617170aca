"""Engines that a test plays: a Prometheus that answers for the pods that it is asked about, as vLLM would be scraped.

A pod is scraped whenever it is asked about, at most once a second, so every sample has the time at which the test's
numbers held.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from harness.prometheus_server import Question, answer, response

BLOCKS, BLOCK_TOKENS = 6250, 16
CACHE_TOKENS = BLOCKS * BLOCK_TOKENS
"""Of each replica."""
_SCRAPE_SECONDS = 0.9
_ASKED = re.compile(r'namespace="([^"]+)",pod=~"((?:[^"\\]|\\.)*)"\}(?:\[(\d+)s\])?')
_GONE_POD = "-aaaaaaaaaa-aaaaa"
_COUNTED = {"vllm:request_success_total": 1, "vllm:prompt_tokens_total": 100, "vllm:generation_tokens_total": 100}
"""Of one request."""
_EMPTY = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")


@dataclass
class _Engine:
    """One pod: what it has counted, and its scrapes as (time, values by series)."""

    since: float
    scrapes: list[tuple[float, dict[str, float]]] = field(default_factory=list)


class PlayedEngines:
    """What the engines say.

    Args:
        clock: seconds since 1970.

    Attributes:
        tokens: in use in all caches together, spread over the pods that are asked about.
        held: requests that run, by pod; nought where it is not told.
        is_down: the server answers with an error.
        idle_since: from then on no request has come; None: one comes each second.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.tokens = 0
        self.held: dict[str, int] = {}
        self.is_down = False
        self.idle_since: float | None = None
        self._engines: dict[str, _Engine] = {}

    async def behave(self, question: Question) -> bytes:
        """The answer of the server."""
        if self.is_down:
            return response(b"", "503 Service Unavailable")
        asked = _ASKED.search(question.asked["query"])
        assert asked is not None, question.asked["query"]
        namespace, pods, window = asked.groups()
        if question.path.endswith("query_range"):
            return answer([*self._past(namespace, pods, question)], "matrix")
        names = [one.replace("\\\\", "") for one in pods.split("|")]
        now = self._clock()
        for name in names:
            self._scrape(name, now, len(names))
        return answer([*self._lately(namespace, names, now - float(window or 60))], "matrix")

    def _scrape(self, pod: str, now: float, pods: int) -> None:
        engine = self._engines.setdefault(pod, _Engine(now))
        if engine.scrapes and now - engine.scrapes[-1][0] < _SCRAPE_SECONDS:
            return
        until = now if self.idle_since is None else min(now, self.idle_since)
        done = max(0.0, until - engine.since)
        engine.scrapes.append(
            (
                now,
                {
                    "vllm:num_requests_running": float(self.held.get(pod, 0)),
                    "vllm:num_requests_waiting": 0.0,
                    "vllm:kv_cache_usage_perc": min(1.0, self.tokens / pods / CACHE_TOKENS),
                    "vllm:cache_config_info": 1.0,
                    **{name: float(int(done) * each) for name, each in _COUNTED.items()},
                },
            )
        )

    def _lately(self, namespace: str, pods: list[str], begin: float) -> Iterator[object]:
        for pod in pods:
            scrapes = [one for one in self._engines[pod].scrapes if one[0] > begin]
            for name in scrapes[-1][1] if scrapes else ():
                values = [[at, str(found[name])] for at, found in scrapes]
                yield {"metric": _labels(name, namespace, pod), "values": values}

    @staticmethod
    def _past(namespace: str, deployments: str, question: Question) -> Iterator[object]:
        """A replica that is gone by now has had a request a second for as long as anybody asks."""
        begin, end, step = (float(question.asked[name]) for name in ("start", "end", "step"))
        times = [begin + number * step for number in range(int((end - begin) // step) + 1)]
        heads = re.search(r"\(\?:([^)]*)\)", deployments)
        pod = (heads[1] if heads is not None else deployments).split("|")[0].replace("\\\\", "") + _GONE_POD
        for name, each in _COUNTED.items():
            values = [[at, str(int(at - 1_700_000_000) * each)] for at in times]
            yield {"metric": _labels(name, namespace, pod), "values": values}
        for name, value in {"vllm:cache_config_info": 1, **dict.fromkeys(_EMPTY, 0)}.items():
            yield {"metric": _labels(name, namespace, pod), "values": [[at, str(value)] for at in times]}


def _labels(name: str, namespace: str, pod: str) -> dict[str, str]:
    info = {"num_gpu_blocks": str(BLOCKS), "block_size": str(BLOCK_TOKENS)} if name.endswith("config_info") else {}
    return {"__name__": name, "namespace": namespace, "pod": pod, "instance": f"{pod}:8000", **info}
