"""Settings, logs, metrics and health of the processes."""

from __future__ import annotations

import itertools
import json
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from stowage.run import doorbell, health, logs
from stowage.run.metrics import Metrics
from stowage.run.settings import OperatorSettings, cpu_limit


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({"cpu.max": "100000 100000\n"}, 1, id="v2: one CPU"),
        pytest.param({"cpu.max": "50000 100000\n"}, 1, id="v2: half a CPU is one worker"),
        pytest.param({"cpu.max": "max 100000\n"}, 4, id="v2: no limit"),
        pytest.param({"cpu.max": "250000 100000\n"}, 2, id="v2: parts are not a CPU"),
        pytest.param({"cpu.max": "900000 100000\n"}, 4, id="v2: more than there are"),
        pytest.param({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3, id="v1"),
        pytest.param({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4, id="v1: no limit"),
        pytest.param({}, 4, id="no cgroup"),
    ],
)
def test_cpus_follow_the_cgroup(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert cpu_limit(tmp_path) == expected


def test_settings_come_from_the_environment_and_flags_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOWAGE_NAMESPACE", "from-environment")
    monkeypatch.setenv("STOWAGE_METRICS_PORT", "9000")
    settings = OperatorSettings(metrics_port=9001)
    assert (settings.namespace, settings.metrics_port) == ("from-environment", 9001)


@pytest.mark.parametrize(
    ("given", "read"),
    [("", ()), ("ml", ("ml",)), ("ml, research,", ("ml", "research"))],
)
def test_watched_namespaces_are_separated_by_commas(
    given: str, read: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOWAGE_WATCH_NAMESPACES", given)
    assert OperatorSettings().watch_namespaces == read


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("METRICS_PORT", "70000"),
        ("WATCH_NAMESPACES", "no_such"),
        ("LOG_FORMAT", "xml"),
        ("SOLVER_WORKERS", "0"),
        ("NAMESPACE", ""),
    ],
)
def test_a_bad_setting_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"STOWAGE_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        OperatorSettings()


def record(**extra: object) -> logging.LogRecord:
    made = logging.LogRecord("stowage.run", logging.INFO, __file__, 1, "moved %d pods", (3,), None)
    made.__dict__.update(extra)
    return made


def test_human_logs_are_one_line_with_their_fields() -> None:
    line = logs.formatter("human").format(record(plan="p-1", created=0.0))
    assert line == "1970-01-01T00:00:00Z INFO    moved 3 pods  plan=p-1"


def test_what_others_said_makes_no_line_of_its_own() -> None:
    told = record(msg="job a/b: %s", args=("died\n1970-01-01T00:00:00Z INFO all is well\x1b[2K ä",), created=0.0)
    line = logs.formatter("human").format(told)
    assert line == r"1970-01-01T00:00:00Z INFO    job a/b: died\n1970-01-01T00:00:00Z INFO all is well\x1b[2K ä"


def test_json_logs_are_one_document_with_their_fields() -> None:
    document = json.loads(logs.formatter("json").format(record(plan="p-1")))
    assert document.pop("time")
    assert document == {"level": "INFO", "logger": "stowage.run", "message": "moved 3 pods", "plan": "p-1"}


def test_tracebacks_of_kopf_stay_out_of_the_log_and_ours_do_not() -> None:
    try:
        int("the watch failed")
    except ValueError:
        for name, kept in (("kopf._core.reactor.running", False), ("stowage.run.queue", True)):
            one = logging.LogRecord(name, logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
            assert logs.in_one_line(one)
            assert bool(one.exc_info) is kept


def test_what_is_not_followed_shows_while_it_is_not() -> None:
    metrics = Metrics()

    def shown(**labels: str) -> float | None:
        return metrics.registry.get_sample_value("stowage_degraded", labels)

    metrics.show_troubles({"Job": "Forbidden", "Pod": "Silent"})
    assert shown(collection="Job", reason="Forbidden") == 1
    metrics.show_troubles({"Job": "NotServed"})
    assert shown(collection="Job", reason="Forbidden") == 0
    assert shown(collection="Job", reason="NotServed") == 1
    assert shown(collection="Pod", reason="Silent") == 0


async def test_health_and_metrics_over_http() -> None:
    metrics = Metrics()
    metrics.moves.inc(3)
    problems: list[str] = []
    app = web.Application()
    app.add_routes(health.routes(metrics.registry, live=lambda: problems, ready=list))
    async with health.serve(app, "127.0.0.1", 0) as port, ClientSession(f"http://127.0.0.1:{port}") as client:

        async def get(path: str) -> tuple[int, str]:
            async with client.get(path) as answer:
                return answer.status, await answer.text()

        assert await get("/healthz") == (200, "ok")
        problems.append("no event of Pod for 130 s")
        assert await get("/healthz") == (503, "no event of Pod for 130 s")
        assert await get("/readyz") == (200, "ok")
        status, text = await get("/metrics")
    assert status == 200
    values = {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}
    assert values["stowage_moves_total"] == 3


def test_every_metric_has_our_prefix_a_help_text_and_a_unit_where_it_measures_time() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    families = list(registry.collect())
    assert len(families) > 10
    for family in families:
        assert family.name.startswith("stowage_")
        assert len(family.documentation) > 10
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


def test_no_outage_is_too_long_for_the_doorbell() -> None:
    backoffs = doorbell.settings().networking.error_backoffs
    assert isinstance(backoffs, Iterable)
    for _ in range(2):  # kopf starts anew with each request
        waits = list(itertools.islice(backoffs, 1000))
        assert len(waits) == 1000
        assert max(waits) <= 10


def test_the_doorbell_writes_no_events() -> None:
    assert not doorbell.settings().posting.enabled
