"""Flags of the long-running processes are their settings, no more and no less."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from stowage.cli import processes, run
from stowage.run import extender, operator
from stowage.run.extender import ExtenderSettings
from stowage.run.settings import OperatorSettings, ProcessSettings


@pytest.mark.parametrize(
    ("command", "settings"),
    [(processes.operator, OperatorSettings), (processes.extender, ExtenderSettings)],
    ids=["operator", "extender"],
)
def test_every_setting_is_a_flag(command: Callable[..., None], settings: type[ProcessSettings]) -> None:
    assert set(inspect.signature(command).parameters) == set(settings.model_fields)


@pytest.mark.parametrize("flag", [(), ("--metrics-port", "9001")], ids=["from the environment", "the flag wins"])
def test_flags_go_before_the_environment(flag: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def end_at_once(settings: ProcessSettings) -> int:
        seen.append(settings)
        return 3

    monkeypatch.setenv("STOWAGE_METRICS_PORT", "9000")
    monkeypatch.setattr(operator, "main", end_at_once)
    monkeypatch.setattr(extender, "main", end_at_once)

    assert run(["operator", "--log-format", "json", *flag]) == 3
    assert run(["extender", "--log-format", "json", *flag]) == 3

    assert [one.metrics_port for one in seen] == [9001 if flag else 9000] * 2
    assert {one.log_format for one in seen} == {"json"}


def test_a_bad_value_names_flag_and_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STOWAGE_QUEUE_WORKERS", "many")
    assert run(["operator"]) == 2
    assert "--queue-workers or STOWAGE_QUEUE_WORKERS = 'many'" in capsys.readouterr().err
