"""What a comparison showed: a table for people, a document for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.agreement.cases import FAMILIES, PAIRS, coverage
from harness.measurements import RESULTS

if TYPE_CHECKING:
    from harness.agreement.comparison import Verdict

FILE = RESULTS.with_name("agreement.json")
_COLUMNS = ("cases", "no node", "some nodes", "all nodes", "skipped", "explained", "disagreements")


class AgreementReport:
    """Verdicts, counted by family of rules and by pair of families."""

    def __init__(self, verdicts: Iterable[Verdict]) -> None:
        self.verdicts = list(verdicts)
        self.compared = [verdict for verdict in self.verdicts if not verdict.skipped]
        self.coverage = coverage(verdict.case for verdict in self.compared)
        self.skipped = Counter(verdict.skipped for verdict in self.verdicts if verdict.skipped)
        self.explained = Counter(why for verdict in self.verdicts for why in verdict.explained)
        self.disagreements = [verdict for verdict in self.verdicts if verdict.findings]

    def rows(self) -> dict[str, Counter[str]]:
        """By family, then of all: how many cases, and what came of them."""
        rows: dict[str, Counter[str]] = {family: Counter() for family in (*FAMILIES, "all")}
        for verdict in self.verdicts:
            for family in (*verdict.case.families, "all"):
                rows[family].update(_marks(verdict))
        return rows

    def table(self) -> Iterator[str]:
        """Lines for a terminal."""
        yield f"{'family':<26}" + "".join(f"{column:>15}" for column in _COLUMNS)
        for family, counts in self.rows().items():
            yield f"{family:<26}" + "".join(f"{counts[column]:>15,}" for column in _COLUMNS)
        scarce = min(PAIRS, key=lambda pair: self.coverage[pair])
        least = self.coverage[scarce]
        yield f"{len(PAIRS)} pairs of families, each compared at least {least} times ({' + '.join(scarce)})"
        for title, counts in (("skipped", self.skipped), ("explained", self.explained)):
            for why, count in counts.most_common():
                yield f"{title}: {count} ({why})"
        for verdict in self.disagreements:
            what = f"{verdict.case.name} ({', '.join(verdict.case.families)})"
            yield f"DISAGREEMENT {what}: {'; '.join(verdict.findings)}"

    def document(self) -> dict[str, Any]:
        """All of it for a file."""
        return {
            "cases": len(self.verdicts),
            "compared": len(self.compared),
            "disagreements": [
                {"case": verdict.case.name, "families": verdict.case.families, "findings": verdict.findings}
                for verdict in self.disagreements
            ],
            "skipped": dict(self.skipped),
            "explained": dict(self.explained),
            "families": {family: dict(counts) for family, counts in self.rows().items()},
            "pairs": {" + ".join(pair): self.coverage[pair] for pair in PAIRS},
        }

    def write(self, file: Path) -> None:
        """Write the document."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.document(), indent=2) + "\n", encoding="utf-8")


REPORT = pytest.StashKey[AgreementReport]()


def _marks(verdict: Verdict) -> Iterator[str]:
    yield "cases"
    yield "no node" if not verdict.feasible else "all nodes" if verdict.feasible == verdict.nodes else "some nodes"
    if verdict.skipped:
        yield "skipped"
    if verdict.explained:
        yield "explained"
    if verdict.findings:
        yield "disagreements"
