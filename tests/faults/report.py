"""What a sweep found: a file for machines, a table for people."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from faults.sweep import Outcome


@dataclass
class Report:
    """Outcomes of a test run.

    Attributes:
        seed: of the rotating sample.
        chosen: "all" or "sample".
        fixed: points of each kind in a sample that are always the same.
        rotating: points of each kind in a sample that are drawn by the seed.
        file: faults.json.
        outcomes: by scenario, the undisturbed run first.
    """

    seed: str
    chosen: str
    fixed: int = 1
    rotating: int = 1
    file: Path = Path("build/faults.json")
    outcomes: dict[str, list[Outcome]] = field(default_factory=lambda: defaultdict(list))

    @property
    def kills(self) -> int:
        """How many points were reached."""
        return sum(outcome.killed for outcomes in self.outcomes.values() for outcome in outcomes)

    def document(self) -> dict[str, Any]:
        """Everything, for faults.json."""
        runs = [_row(scenario, outcome) for scenario, outcomes in self.outcomes.items() for outcome in outcomes]
        return {
            "seed": self.seed,
            "chosen": self.chosen,
            "killPoints": self.kills,
            "failed": sum(bool(run["problems"]) for run in runs),
            "runs": runs,
        }

    def write(self) -> None:
        """Writes the file; done after each point, so that a run that is stopped leaves what it found."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.document(), indent=1) + "\n", encoding="utf-8")

    def table(self) -> list[str]:
        """Lines of text: one for each scenario and kind of kill."""
        groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
        for scenario, outcomes in self.outcomes.items():
            for outcome in outcomes:
                point = outcome.point
                kind = "undisturbed" if point is None else f"{point.victim.value} at {point.trigger.value}"
                groups[scenario, kind].append(outcome)
        lines = [
            f"{'scenario':<16}{'killed':<24}{'points':>7}{'reached':>9}{'failed':>8}{'seconds':>9}{'evictions':>11}"
        ]
        for (scenario, kind), outcomes in groups.items():
            failed = sum(bool(outcome.problems) for outcome in outcomes)
            evictions = [outcome.evictions for outcome in outcomes]
            lines.append(
                f"{scenario:<16}{kind:<24}{len(outcomes):>7}{sum(outcome.killed for outcome in outcomes):>9}{failed:>8}"
                f"{median(outcome.total_seconds for outcome in outcomes):>9.1f}"
                f"{f'{min(evictions)}-{max(evictions)}':>11}"
            )
        again = "--faults=all"
        if self.chosen == "sample":
            again = f"--faults-fixed={self.fixed} --faults-rotating={self.rotating} --faults-seed={self.seed}"
        return [*lines, f"{self.kills} kill points; the same ones again: pytest tests/faults {again}"]


def _row(scenario: str, outcome: Outcome) -> dict[str, Any]:
    point = outcome.point
    return {
        "scenario": scenario,
        "point": point.id if point is not None else None,
        "killed": outcome.killed,
        "request": outcome.request,
        "endState": {f"{owner} {value}": count for (owner, value), count in outcome.end_state.items()},
        "evictions": outcome.evictions,
        "plans": outcome.plans,
        "changes": {victim.value: count for victim, count in outcome.changes.items()},
        "seconds": round(outcome.seconds, 2),
        "totalSeconds": round(outcome.total_seconds, 2),
        "problems": outcome.problems,
    }
