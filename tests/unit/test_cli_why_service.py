"""`stowage why modelservice/NAME`: the story of the last decisions, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stowage.api.durations import Duration, instant
from stowage.api.model_service_status import (
    ColdStart,
    GroupStatus,
    MixVariant,
    ModelServiceStatus,
    Recommendation,
    RoleMix,
    RoleStatus,
    ServiceLevelStatus,
    SpendStatus,
    VariantStatus,
)
from stowage.cli import run
from stowage.cli.service_answer import document, explain
from stowage.cli.service_text import lines
from stowage_scheduler.kube.dump import read_dump
from stowage_scheduler.kube.redact import redact
from unit.serving_services import NOW, condition, decision, role, service

RISEN = ModelServiceStatus(
    roles=(role(3, 2, starting=1, reason="SloHeadroomLow", message="12.1 requests a second", since=instant(NOW - 65)),),
    decisions=(
        decision(1, 2, "ForecastHigher", NOW - 600),
        decision(2, 2, "Steady", NOW - 70),
        decision(
            2,
            3,
            "SloHeadroomLow",
            NOW - 65,
            recommender="Slo",
            inputs={"arrivalsPerSecond": "12.1"},
            recommendations=(Recommendation(recommender="Slo", replicas=3),),
            valid_until=instant(NOW - 50),
        ),
    ),
    conditions=(
        condition("Accepted", "True", "Accepted"),
        condition("Available", "False", "ReplicasStarting", "2 of 3 unified ready"),
    ),
    slo=ServiceLevelStatus(attainment="0.9912", requests=1200),
    cold_start=ColdStart(p50=Duration("94s"), p90=Duration("130s")),
    last_signal_at=instant(NOW - 4),
)


def test_the_story_of_a_rise() -> None:
    answer = explain(service(RISEN), NOW)
    assert "\n".join(lines(answer)) == (
        "modelservice team/chat: 2 of 3 replicas ready\n"
        "  Available False, ReplicasStarting: 2 of 3 unified ready\n"
        "  99.12% of 1200 requests met every target\n"
        "  a replica takes 1 min 34 s to start, nine of ten at most 2 min 10 s\n"
        "  newest signal: 4.0 s ago\n"
        "role unified: 3 replicas, for 1 min 5 s (2 ready, 1 starting)\n"
        "  because: SloHeadroomLow, 12.1 requests a second\n"
        "  last decision, 1 min 5 s ago: from 2 to 3, SloHeadroomLow, as Slo asked\n"
        "    asked for: Slo 3\n"
        "    numbers: arrivalsPerSecond 12.1\n"
        "  before that, 1 min 10 s ago: from 2 to 2, Steady\n"
        "  before that, 10 min ago: from 1 to 2, ForecastHigher"
    )
    assert not answer.positive


def test_replicas_that_were_made_anew_are_told_of() -> None:
    group = GroupStatus(ordinal=1, size=2, restarts=3, since=instant(NOW - 20), reason="PodEnded", message="pod x")
    well = GroupStatus(ordinal=0, size=2, since=instant(NOW - 20))
    variants = (VariantStatus(name="wide", desired=2, groups=(well, group)),)
    answer = explain(service(ModelServiceStatus(roles=(RoleStatus(name="unified", variants=variants),))), NOW)
    found = [line for line in lines(answer) if "anew" in line]
    assert found == ["  replica 1 of wide was made anew 3 times in a row, last 20 s ago; PodEnded: pod x"]
    (role_,) = document(answer)["roles"]
    assert role_["groups"] == [
        {"variant": "wide", "ordinal": 1, "restarts": 3, "since": NOW - 20, "reason": "PodEnded", "message": "pod x"}
    ]


def test_of_many_replicas_that_were_made_anew_some_are_told_of_and_the_others_counted() -> None:
    groups = tuple(GroupStatus(ordinal=number, size=2, restarts=1, since=instant(NOW)) for number in range(12))
    variants = (VariantStatus(name="wide", desired=12, groups=groups),)
    answer = explain(service(ModelServiceStatus(roles=(RoleStatus(name="unified", variants=variants),))), NOW)
    assert [line for line in lines(answer) if "anew" in line][5:] == ["  7 more replicas were made anew"]


def test_a_status_that_rests_is_not_called_old_before_it_had_to_be_written() -> None:
    assert "does the operator run" not in "\n".join(lines(explain(service(RISEN), NOW + 250)))
    assert "nothing newer was told for 5 min 50 s: does the operator run?" in "\n".join(
        lines(explain(service(RISEN), NOW + 300))
    )


def test_the_same_for_programs() -> None:
    found = document(explain(service(RISEN), NOW))
    (one,) = found["roles"]
    last = one["decisions"][0]
    assert (last["from"], last["to"], last["reason"], last["recommender"]) == (2, 3, "SloHeadroomLow", "Slo")
    assert (last["inputs"], last["validUntil"]) == ({"arrivalsPerSecond": "12.1"}, NOW - 50)
    assert not {"before", "after", "words", "valid_until"} & set(last)
    assert (one["desired"], one["variants"]) == (3, {"default": {"desired": 3, "ready": 3}} | one["variants"])


def test_nothing_helps_replicas_that_start_but_patience() -> None:
    starting = (condition("Available", "False", "ReplicasStarting"), condition("Observed", "False", "SignalsMissing"))
    assert explain(service(ModelServiceStatus(roles=(role(),), conditions=starting)), NOW).help == ""


@pytest.mark.parametrize(
    ("status", "words", "positive"),
    [
        pytest.param(ModelServiceStatus(), "kubectl stowage doctor", False, id="nobody has looked yet"),
        pytest.param(
            ModelServiceStatus(roles=(role(),), conditions=(condition("Scaling", "False", "ManualOverride"),)),
            "take it away to let it follow its load: kubectl patch msvc chat -n team --type merge "
            """-p '{"spec":{"replicas":null}}'""",
            True,
            id="fixed by hand",
        ),
        pytest.param(
            ModelServiceStatus(
                roles=(role(),),
                conditions=(
                    condition("Available", "False", "ReplicasUnplaced"),
                    condition("Observed", "False", "SignalsMissing"),
                ),
            ),
            "kubectl stowage why pod/NAME",
            False,
            id="no room, and no signals for that reason",
        ),
        pytest.param(
            ModelServiceStatus(roles=(role(),), conditions=(condition("Accepted", "False", "ForeignEdit", "hpa"),)),
            "one writer alone",
            False,
            id="two writers",
        ),
        pytest.param(
            ModelServiceStatus(roles=(role(),), conditions=(condition("Accepted", "True", "TargetOutOfReach", "x"),)),
            "a target that a replica can meet",
            True,
            id="a target that no replica meets",
        ),
        pytest.param(
            ModelServiceStatus(roles=(role(),), conditions=(condition("Observed", "False", "UnknownEndpoint"),)),
            "prometheus.endpoints",
            True,
            id="signals are no outage",
        ),
    ],
)
def test_what_helps(status: ModelServiceStatus, words: str, positive: bool) -> None:
    answer = explain(service(status), NOW)
    assert words in answer.help
    assert answer.positive is positive


def test_the_mix_of_variants() -> None:
    mix = RoleMix(
        since=instant(NOW - 600),
        reason="MixInForce",
        variants=(
            MixVariant(name="l40s", replicas=2, requests_per_second="3.2700"),
            MixVariant(name="h100", requests_per_second="14.1000"),
        ),
    )
    answer = explain(service(ModelServiceStatus(roles=(role(2, 2, mix=mix),))), NOW)
    assert "  mix of 10 min ago, MixInForce: 2 l40s (3.27/s each), then h100 (14.1/s each)" in list(lines(answer))
    (found,) = document(answer)["roles"]
    assert found["mix"] == {
        "reason": "MixInForce",
        "since": NOW - 600,
        "variants": {
            "l40s": {"replicas": 2, "requestsPerSecond": 3.27},
            "h100": {"replicas": 0, "requestsPerSecond": 14.1},
        },
    }


def test_a_service_is_explained_from_a_dump(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = service(RISEN).to_document()
    stored["spec"]["roles"][0]["variants"][0]["template"]["spec"]["containers"][0]["env"] = [{"name": "TOKEN"}]
    stored["spec"]["model"] = {"name": "m", "uri": "https://user:secret@models/m"}
    stored["spec"]["roles"][0]["warm"] = {"nodes": 1}
    dump = redact({"apiVersion": "v1", "kind": "List", "items": [stored]})
    text = json.dumps(dump)
    assert not [word for word in ("TOKEN", "secret", "image", "requests a second") if word in text]
    (tmp_path / "dump.json").write_text(text)
    assert run(["why", "msvc/team/chat", "-f", str(tmp_path / "dump.json")]) == 1
    told = capsys.readouterr().out
    assert "role unified: 3 replicas" in told
    assert "asked for: Slo 3" in told
    assert run(["why", "msvc/team/other", "-f", str(tmp_path / "dump.json")]) == 2
    assert "modelservice team/other: not found" in capsys.readouterr().err


def test_top_lists_services_those_that_miss_most_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spend = SpendStatus(gpus=24, cost_per_hour="10.5")
    items = [
        service(RISEN.model_copy(update={"reason": "SloHeadroomLow", "spend": spend})).to_document(),
        {**service().to_document(), "metadata": {"name": "a", "namespace": "team"}},
        {**service().to_document(), "metadata": {"name": "odd", "namespace": "team"}, "spec": {}},
    ]
    file = tmp_path / "dump.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    assert run(["top", "-f", str(file), "-o", "json"]) == 0
    answer = capsys.readouterr()
    first, second = json.loads(answer.out)["modelServices"]
    assert first == {
        "service": "team/chat",
        "ready": 2,
        "desired": 3,
        "attainment": 0.9912,
        "reason": "SloHeadroomLow",
        "gpus": 24,
        "costPerHour": 10.5,
        "powerWatts": None,
    }
    assert (second["service"], second["attainment"]) == ("team/a", None)
    assert "left out: ModelService odd: spec.roles" in answer.err
    assert run(["top", "-f", str(file)]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[-2].split() == ["team/chat", "2", "3", "99.12", "%", "SloHeadroomLow", "24", "10.50"]


def test_profiles_stand_in_a_dump_as_they_are_written() -> None:
    profile = {
        "apiVersion": "stowage.dev/v1alpha1",
        "kind": "PerformanceProfile",
        "metadata": {"name": "h100", "managedFields": []},
        "spec": {"model": "m", "accelerator": "h100", "kvCacheTokens": 1},
    }
    text = json.dumps(redact({"apiVersion": "v1", "kind": "List", "items": [profile]}))
    assert read_dump(text.encode()).profiles == ({**profile, "metadata": {"name": "h100"}},)
