"""Live progress of the demo: a small table on a terminal, a line per change elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stowage.demo.watching import Sight


class Display:
    """Shows each sight of the cluster while the block runs."""

    def __init__(self, out: Console, pod_count: int) -> None:
        self._out = out
        self._pod_count = pod_count
        self._live = Live(console=out, refresh_per_second=8, transient=True) if out.is_terminal else None
        self._last_line = ""

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, sight: Sight) -> None:
        """Brings what is shown up to date."""
        line = progress_line(sight, self._pod_count)
        if self._live is not None:
            self._live.update(self._rendered(sight, line))
        elif line != self._last_line:
            self._out.print(f"  {line}")
        self._last_line = line

    def _rendered(self, sight: Sight, line: str) -> RenderableType:
        table = Table("priority", box=None)
        for head in ("running", "pending"):
            table.add_column(head, justify="right")
        for priority in sorted({*sight.running, *sight.pending}, reverse=True):
            table.add_row(str(priority), str(sight.running.get(priority, 0)), str(sight.pending.get(priority, 0)))
        bar = Table.grid()
        bar.add_row(ProgressBar(total=self._pod_count, completed=sum(sight.running.values()), width=60))
        return Group(table, bar, Text(line))


def progress_line(sight: Sight, pod_count: int) -> str:
    """One line: pods, and the plan that is under way."""
    running, pending = sum(sight.running.values()), sum(sight.pending.values())
    text = f"{running} of {pod_count} pods run, {pending} pending"
    if sight.unsettled:
        text += f", {sight.unsettled} on their way"
    plan = sight.active
    if plan is not None:
        text += f"; plan {plan.name} {plan.status.phase or 'new'}, steps {plan.status.progress}"
    elif sight.policy_reason:
        text += f"; policy: {sight.policy_reason}"
    return text
