"""What reports of coordinators, pods, nodes and Prometheus say of failures."""

from __future__ import annotations

from typing import Any

import pytest

from stowage.api.training_words import Action, Event
from stowage.decide.training.evidence_of_nodes import evidence_of_nodes
from stowage.decide.training.evidence_of_pods import IMAGE_PATIENCE_SECONDS, evidence_of_pods
from stowage.decide.training.evidence_of_reports import evidence_of_report
from stowage.decide.training.facts import Evidence, JobFacts, SeatFacts
from stowage_scheduler.cluster import Effect, Node, Pod, Taint
from stowage_scheduler.health import ContainerEnd, NodeCondition, PodHealth
from stowage_worker import messages
from unit.builders import NOW, node, pod
from unit.training_cases import EPOCH, EPOCH_AT, after, cluster, decided, job, seat

BOUND_AT = EPOCH_AT - 60.0
SEEN = NOW - 10.0


def seat_pod(health: PodHealth | None = None, **fields: Any) -> Pod:
    return pod("s1", "n1", **{"uid": "uid-of-s1", "bound_at": BOUND_AT, "health": health, **fields})


def of_pod(one: Pod | None, now: float = NOW) -> tuple[Evidence, ...]:
    only = job(seats=(seat(1),))
    return evidence_of_pods(only, [] if one is None else [one], now)


@pytest.mark.parametrize(
    ("one", "event", "at", "name"),
    [
        pytest.param(
            seat_pod(PodHealth(ends=(ContainerEnd("t", 137, 0, "OOMKilled", SEEN, 1),))),
            Event.OUT_OF_MEMORY, SEEN, "OOMKilled", id="out of memory",
        ),
        pytest.param(
            seat_pod(PodHealth(ends=(ContainerEnd("t", 1, 0, "Error", SEEN),))),
            Event.CONTAINER_EXITED, SEEN, "Error", id="the container ended",
        ),
        pytest.param(
            seat_pod(PodHealth(ends=(ContainerEnd("files", 2, 0, "Error", SEEN, init=True),))),
            Event.CONTAINER_EXITED, SEEN, "files:Error", id="an init container ended",
        ),
        pytest.param(
            seat_pod(PodHealth(disruption="PreemptionByScheduler", disrupted_at=SEEN)),
            Event.DISRUPTION, SEEN, "PreemptionByScheduler", id="preempted",
        ),
        pytest.param(
            seat_pod(PodHealth(disruption="EvictionByEvictionAPI", disrupted_at=SEEN), terminating=True),
            Event.DISRUPTION, SEEN, "EvictionByEvictionAPI", id="drained",
        ),
        pytest.param(
            seat_pod(PodHealth(disruption="DeletionByPodGC", disrupted_at=SEEN)),
            Event.NODE_LOST, SEEN, "DeletionByPodGC", id="its node is no more",
        ),
        pytest.param(
            seat_pod(PodHealth(deleted_at=SEEN), terminating=True), Event.DISRUPTION, SEEN, "Deleted", id="deleted"
        ),
        pytest.param(
            seat_pod(PodHealth(reason="NodeShutdown"), phase="Failed"),
            Event.DISRUPTION, NOW - 600, "NodeShutdown", id="the kubelet shut down",
        ),
        pytest.param(
            seat_pod(PodHealth(reason="UnexpectedAdmissionError"), phase="Failed"),
            Event.POD_DELETED, NOW - 600, "UnexpectedAdmissionError", id="the kubelet did not take it",
        ),
        pytest.param(None, Event.POD_DELETED, NOW, "", id="gone"),
        pytest.param(
            seat_pod(PodHealth(waiting=(("t", "InvalidImageName"),)), bound_at=SEEN),
            Event.IMAGE_UNAVAILABLE, SEEN, "InvalidImageName", id="no image has such a name",
        ),
        pytest.param(
            seat_pod(PodHealth(waiting=(("t", "ImagePullBackOff"),)), bound_at=NOW - IMAGE_PATIENCE_SECONDS),
            Event.IMAGE_UNAVAILABLE, NOW, "ImagePullBackOff", id="no image for long",
        ),
        pytest.param(
            seat_pod(PodHealth(devices=("nvidia.com/gpu/gpu-1",))),
            Event.DEVICE_UNHEALTHY, BOUND_AT, "nvidia.com/gpu/gpu-1", id="a device is not well",
        ),
    ],
)  # fmt: skip
def test_pods_tell_what_happened_to_them(one: Pod | None, event: Event, at: float, name: str) -> None:
    (evidence,) = of_pod(one)
    assert (evidence.event, evidence.at, evidence.name) == (event, at, name)
    assert (evidence.seat, evidence.node, evidence.pod, evidence.source) == ("s1", "n1", "uid-of-s1", "pod")


def test_an_image_without_python_is_told_with_what_helps() -> None:
    words = 'runc create failed: exec: "python3": executable file not found in $PATH: unknown'
    end = ContainerEnd("trainer", 128, 0, "StartError", SEEN, message=words)
    decision = decided(*of_pod(seat_pod(PodHealth(ends=(end,)))), job_facts=job(seats=(seat(1),)))
    assert words in decision.message
    assert "has to have Python 3.9 or newer as python3 on PATH" in decision.message
    assert decision.evidence[0].detail == words


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(seat_pod(), id="all is well"),
        pytest.param(seat_pod(PodHealth(ends=(ContainerEnd("t", 0, 0, "Completed", SEEN),))), id="a good end"),
        pytest.param(
            seat_pod(PodHealth(ends=(ContainerEnd("t", 76, 0, "Error", SEEN),))), id="an end that was asked for"
        ),
        pytest.param(
            seat_pod(PodHealth(waiting=(("t", "ErrImagePull"),)), bound_at=NOW - 5),
            id="a registry that fails for moments",
        ),
        pytest.param(seat_pod(PodHealth(waiting=(("t", "PodInitializing"),))), id="a pod that begins"),
        pytest.param(seat_pod(phase="Succeeded"), id="a pod that has done its work"),
    ],
)
def test_pods_that_do_what_they_should_tell_nothing(one: Pod) -> None:
    assert of_pod(one) == ()


def test_pods_that_were_given_up_are_not_looked_at() -> None:
    given_up = job(seats=(SeatFacts("s1"),))
    assert evidence_of_pods(given_up, [seat_pod(PodHealth(deleted_at=SEEN), terminating=True)], NOW) == ()


def of_node(one: Node | None, facts: JobFacts | None = None) -> list[tuple[Event, float, str]]:
    nodes = {} if one is None else {one.name: one}
    found = evidence_of_nodes(facts or job(seats=(seat(1, started_at=BOUND_AT),)), nodes, NOW)
    assert {evidence.node for evidence in found} <= {"n1"}
    return [(evidence.event, evidence.at, evidence.name) for evidence in found]


@pytest.mark.parametrize(
    ("one", "told"),
    [
        pytest.param(node("n1"), [], id="all is well"),
        pytest.param(None, [(Event.NODE_LOST, NOW, "Gone")], id="gone"),
        pytest.param(
            node("n1", conditions=(NodeCondition("Ready", "Unknown", "NodeStatusUnknown", "", SEEN),)),
            [(Event.NODE_LOST, SEEN, "Ready")],
            id="not ready",
        ),
        pytest.param(
            node("n1", conditions=(NodeCondition("SysLogsXIDError", "True", since=SEEN),)),
            [(Event.NODE_CONDITION, SEEN, "SysLogsXIDError")],
            id="a condition",
        ),
        pytest.param(
            node("n1", taints=(Taint("nvidia.com/gpu-xid-error", Effect.NO_SCHEDULE, "true"),)),
            [(Event.NODE_TAINT, BOUND_AT, "nvidia.com/gpu-xid-error")],
            id="a taint",
        ),
        pytest.param(
            node("n1", taints=(Taint("node.kubernetes.io/out-of-service", Effect.NO_EXECUTE),)),
            [(Event.NODE_LOST, BOUND_AT, "node.kubernetes.io/out-of-service")],
            id="an admin knows it to be off",
        ),
        pytest.param(
            node(
                "n1",
                taints=(
                    Taint("node.kubernetes.io/unschedulable", Effect.NO_SCHEDULE),
                    Taint("stowage.dev/unhealthy", Effect.NO_SCHEDULE),
                    Taint("soft", Effect.PREFER_NO_SCHEDULE),
                ),
            ),
            [],
            id="taints that only keep new pods away",
        ),
    ],
)
def test_nodes_tell_what_is_wrong_with_them(one: Node | None, told: list[tuple[Event, float, str]]) -> None:
    assert of_node(one) == told


def test_reports_are_read_without_what_is_not_known() -> None:
    report = messages.Report(
        epoch=EPOCH,
        attempt=3,
        phase="Failed",
        seats=(messages.SeatState("s1", "uid-of-s1", connected=True, state="Running", node="n1"),),
        evidence=(
            messages.Evidence("ProcessExited", EPOCH, SEEN, "s1", 3, 1, None, "KeyError", "'x'", "h", 9),
            messages.Evidence("LogRule", EPOCH, SEEN, "s1", name="oops", detail="a line"),
            messages.Evidence("Hang", EPOCH, SEEN),
            messages.Evidence("Earthquake", EPOCH, SEEN),
        ),
    )
    exited, line, hang = evidence_of_report(report)
    assert (exited.event, exited.seat, exited.node, exited.rank, exited.step) == (
        Event.PROCESS_EXITED,
        "s1",
        "n1",
        3,
        9,
    )
    assert (line.event, line.name, line.rank, line.step) == (Event.LOG, "oops", None, None)
    assert (hang.event, hang.seat, hang.epoch) == (Event.HANG, None, EPOCH)


def test_a_container_that_ran_out_of_memory_is_answered_once() -> None:
    """Its last state stays in the status of the pod for good."""
    facts, one = job(), seat_pod(PodHealth(ends=(ContainerEnd("t", 137, 0, "OOMKilled", SEEN, 1),)))
    pods = [one, *(pod(f"s{number}", f"n{number}") for number in (0, 2, 3))]
    decision = decided(*evidence_of_pods(facts, pods, NOW), job_facts=facts)
    assert decision.action is Action.RESTART_CONTAINER
    now = after(facts, decision, NOW)
    assert decided(*evidence_of_pods(now, pods, NOW + 1), job_facts=now, now=NOW + 1).action is Action.IGNORE


def test_of_a_node_that_went_away_with_a_job_nothing_is_left_to_do() -> None:
    facts = job(seat(1, connected=False))
    gone = cluster(gone=("n1",))
    nodes = {one.name: one for one in gone.nodes}
    decision = decided(*evidence_of_nodes(facts, nodes, NOW), job_facts=facts, snapshot=gone)
    assert decision.vacate == ("s1",)
    assert evidence_of_nodes(after(facts, decision, NOW), nodes, NOW + 1) == ()
