"""What clients saw of a load on a service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from harness.workbench import Document
from results_table import ServingRow
from stand_in.client import Outcome, Result
from stand_in.load import Promise, summary

TTFT_SECONDS: Final = 2.0
ITL_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Answers:
    """What clients saw of a load."""

    head: Document
    requests: list[Document]

    @property
    def summary(self) -> Document:
        """Counts, quantiles and the share that was good."""
        found: Document = self.head["summary"]
        return found

    @property
    def lost(self) -> int:
        """Requests that did not complete."""
        return int(self.summary["requests"] - self.summary["completed"])

    def p99(self, name: str) -> float | None:
        """A quantile in seconds; None: no request tells."""
        found: float | None = self.summary[name].get("p99")
        return found

    def lost_at(self) -> list[float]:
        """When requests that did not complete were sent, in seconds since 1970, in order."""
        began: float = self.head["began_at"]
        return [began + one["at_seconds"] for one in self.requests if one["outcome"] != Outcome.COMPLETED]

    def beside(self, other: Answers) -> Answers:
        """Those of two loads that were sent side by side."""
        later: float = other.head["began_at"] - self.head["began_at"]
        requests = [*self.requests, *({**one, "at_seconds": one["at_seconds"] + later} for one in other.requests)]
        results = [Result(**{**one, "outcome": Outcome(one["outcome"])}) for one in requests]
        found = summary(results, Promise(TTFT_SECONDS, ITL_SECONDS))
        return Answers({**self.head, "summary": found}, requests)


def row(story: str, load: str, replicas: str, answers: Answers, settled: float | None = None) -> ServingRow:
    """What a story cost those who asked."""
    return ServingRow(
        story=story,
        load=load,
        replicas=replicas,
        requests=answers.summary["requests"],
        lost=answers.lost,
        ttft_p99_seconds=answers.p99("ttft_seconds"),
        itl_p99_seconds=answers.p99("itl_seconds"),
        attainment=answers.summary["attainment"],
        settled_seconds=settled,
    )
