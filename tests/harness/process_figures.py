"""What a process takes of the machine, as Linux accounts it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ProcessFigures:
    """Memory (MB of 10⁶ bytes) and CPU seconds of one process, without its children."""

    resident_mb: float
    peak_mb: float
    cpu_seconds: float

    @classmethod
    def of(cls, pid: int | Literal["self"]) -> ProcessFigures:
        """The figures of a process now; `self`: of this one."""
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        # the second field of stat, the program's name in parentheses, may hold blanks
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return cls(
            resident_mb=_megabytes(fields["VmRSS"]),
            peak_mb=_megabytes(fields["VmHWM"]),
            cpu_seconds=(int(stat[11]) + int(stat[12])) / _TICKS_PER_SECOND,
        )


def waited_seconds(pid: int) -> float:
    """How long the main thread of a process could have run and had no processor, since it started."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    children = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text(encoding="ascii").split()
    ]
    return children + [grandchild for child in children for grandchild in descendants(child)]


def _megabytes(kibibytes: str) -> float:
    return int(kibibytes.split(maxsplit=1)[0]) * 1024 / 1e6
