"""`python -m stand_in.serve`: an engine as a container runs it."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import yaml

from stand_in.engine_metrics import Names
from stand_in.process import Process, run
from stand_in.server import Role
from stowage.api.performance_profile import PerformanceProfile
from stowage.decide.serving.performance import Performance
from stowage.decide.serving.profile_resource import performance_of


def read_profile(file: Path) -> Performance:
    """The performance in a file with a PerformanceProfile.

    Raises:
        ValueError: it is none.
    """
    return performance_of(PerformanceProfile.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))).spec)


def main() -> None:
    """Reads the command line and serves."""
    parser = argparse.ArgumentParser(prog="stand_in.serve", description=__doc__)
    parser.add_argument("--profile", type=Path, required=True, help="file with a PerformanceProfile")
    parser.add_argument("--model", default="stand-in", help="as requests call it")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen at")  # noqa: S104 - in a pod
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--speed", type=float, default=1.0, help="everything takes this much less time")
    parser.add_argument("--cold-start-seconds", type=float, default=0.0, help="until it listens")
    parser.add_argument("--role", type=Role, choices=tuple(Role), default=Role.UNIFIED)
    parser.add_argument("--metric-names", type=Names, choices=tuple(Names), default=Names.CURRENT)
    given = parser.parse_args()
    process = Process(
        performance=read_profile(given.profile),
        model=given.model,
        speed=given.speed,
        cold_start_seconds=given.cold_start_seconds,
        role=given.role,
        names=given.metric_names,
    )
    asyncio.run(run(process, given.host, given.port))


if __name__ == "__main__":
    main()
