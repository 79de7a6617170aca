"""promtool plays the alerts: which fire when, and which must not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from stowage.run.metric import Process
from stowage.run.metrics import Metrics

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "helm" / "stowage" / "alerts" / "stowage.yaml"
PLAYS = sorted(Path(__file__).parent.glob("*.yaml"))


@pytest.fixture(scope="module")
def promtool() -> str:
    command = [sys.executable, str(ROOT / "tools" / "check_tools.py")]
    folder = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return str(Path(folder, "promtool"))


def told(command: list[str], text: bytes = b"") -> tuple[int, str]:
    done = subprocess.run(command, input=text, check=False, capture_output=True)
    return done.returncode, (done.stdout + done.stderr).decode()


def test_the_rules_are_well_formed(promtool: str) -> None:
    code, words = told([promtool, "check", "rules", "--lint=all", "--lint-fatal", str(ALERTS)])
    assert code == 0, words


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: str(play.stem))
def test_alerts_fire_when_they_shall(promtool: str, play: Path) -> None:
    code, words = told([promtool, "test", "rules", str(play)])
    assert code == 0, words


def test_every_alert_is_played() -> None:
    alerts = {rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]}
    played = "\n".join(play.read_text() for play in PLAYS)
    assert {alert for alert in alerts if alert not in played} == set()


@pytest.mark.parametrize("process", Process)
def test_what_a_process_shows_is_as_prometheus_wants_it(promtool: str, process: Process) -> None:
    code, words = told([promtool, "check", "metrics"], generate_latest(Metrics(process=process).registry))
    assert (code, words) == (0, "")
