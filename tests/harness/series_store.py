"""Series that a test has scraped, and a server that answers the two kinds of queries that are asked for them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from harness.prometheus_server import Question, answer

LOOKBACK_SECONDS = 300.0
_MATCHER = re.compile(r'([a-zA-Z_]\w*)(=~|=)"((?:\\.|[^"\\])*)"')
_QUERY = re.compile(r"\{(.*)\}(?:\[(\d+)s\])?", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)")

Labels = tuple[tuple[str, str], ...]


class SeriesStore:
    """Samples by series; as Prometheus does, a selector's expressions are anchored."""

    def __init__(self) -> None:
        self.series: dict[Labels, list[tuple[float, float]]] = defaultdict(list)

    def add(self, at: float, name: str, value: float, **labels: str) -> None:
        self.series[tuple(sorted({"__name__": name, **labels}.items()))].append((at, value))

    def scrape(self, at: float, values: Mapping[str, float], **labels: str) -> None:
        """One target: values by name, or by `name{label=value}` for further labels."""
        for name, value in values.items():
            bare, _, rest = name.partition("{")
            own = dict(one.split("=", 1) for one in rest.rstrip("}").split(",") if one)
            self.add(at, bare, value, **{**labels, **own})

    async def __call__(self, question: Question) -> bytes:
        found = _QUERY.fullmatch(question.asked["query"])
        assert found is not None, f"no selector: {question.asked['query']}"
        wanted = [
            (name, kind, _ESCAPED.sub(r"\1", value) if kind == "=" else re.sub(r"\\\\", r"\\", value))
            for name, kind, value in _MATCHER.findall(found[1])
        ]
        if question.path.endswith("query_range"):
            begin, end, step = (float(question.asked[name]) for name in ("start", "end", "step"))
            times = [begin + number * step for number in range(int((end - begin) / step) + 1)]
            return answer(self._stepped(wanted, times), "matrix")
        now = float(question.asked["time"])
        return answer(self._within(wanted, now - float(found[2]), now), "matrix")

    def _matching(self, wanted: list[tuple[str, str, str]]) -> list[Labels]:
        def matches(labels: Mapping[str, str]) -> bool:
            return all(
                labels.get(name, "") == value if kind == "=" else re.fullmatch(value, labels.get(name, ""))
                for name, kind, value in wanted
            )

        return [one for one in self.series if matches(dict(one))]

    def _within(self, wanted: list[tuple[str, str, str]], begin: float, end: float) -> list[Any]:
        found = []
        for one in self._matching(wanted):
            points = [[at, str(value)] for at, value in sorted(self.series[one]) if begin < at <= end]
            if points:
                found.append({"metric": dict(one), "values": points})
        return found

    def _stepped(self, wanted: list[tuple[str, str, str]], times: list[float]) -> list[Any]:
        found = []
        for one in self._matching(wanted):
            known = sorted(self.series[one])
            points = []
            for time in times:
                before = [value for at, value in known if time - LOOKBACK_SECONDS < at <= time]
                if before:
                    points.append([time, str(before[-1])])
            if points:
                found.append({"metric": dict(one), "values": points})
        return found
