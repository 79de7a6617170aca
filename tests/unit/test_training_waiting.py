"""What a job waits for stands in its status, for as long as it waits."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from stowage.api.durations import instant
from stowage.api.fields import MAX_MESSAGE
from stowage.api.training_words import JobPhase
from stowage.decide.training.evidence_of_pods import IMAGE_PATIENCE_SECONDS
from stowage.decide.training.job_status import next_step
from stowage_scheduler.health import PodHealth
from unit.test_training_job_status import Life

CONTAINER = {"name": "trainer", "image": "registry.example/trainer:7", "command": ["python", "train.py"]}
DATA = {"name": "data", "image": "registry.example/data:1"}
TEMPLATE = {"spec": {"containers": [CONTAINER], "initContainers": [DATA]}}


def waits(life: Life, container: str, reason: str, pod: str = "tiny-s0-1") -> None:
    """The pod got its node five seconds ago and its container waits."""
    health = PodHealth(waiting=((container, reason),))
    life.pods[pod] = structs.replace(life.pods[pod], health=health, bound_at=life.now - 5)


def condition(life: Life, kind: str) -> Any:
    return next(one for one in life.status.conditions if one.type == kind)


def placed(**spec: Any) -> Life:
    life = Life(template=TEMPLATE, **spec)
    life.step()
    life.make()
    life.step()
    assert life.status.phase is JobPhase.STARTING
    return life


@pytest.mark.parametrize(
    ("container", "reason", "image"),
    [
        pytest.param("trainer", "ErrImagePull", "registry.example/trainer:7", id="of the trainer"),
        pytest.param("data", "ImagePullBackOff", "registry.example/data:1", id="of an init container"),
        pytest.param("stowage-install", "ImagePullBackOff", "", id="of Stowage itself: its name is not the job's"),
    ],
)
def test_an_image_that_does_not_come_is_told_at_once(container: str, reason: str, image: str) -> None:
    life = placed()
    waits(life, container, reason)
    life.step()
    until = f"{instant(life.now - 5 + IMAGE_PATIENCE_SECONDS):%H:%M:%S} UTC"
    for words in (life.status.message, condition(life, "Running").message):
        assert f"Seat s0: container {container} waits for image{' ' if image else ''}{image}: {reason}" in words
        assert until in words
    before = life.status
    life.now += 1
    life.step()
    assert life.status.message == before.message, "nothing is written while nothing happens"
    life.pods["tiny-s0-1"] = structs.replace(life.pods["tiny-s0-1"], health=None)
    life.step()
    assert "image" not in life.status.message


def test_a_job_without_nodes_says_how_many_pods_wait() -> None:
    life = Life()
    life.step()
    assert life.status.message
    life.make(place=False)
    life.step()
    assert life.status.message == (
        "2 of 2 pods have no node yet, the first is that of seat s0: see kubectl stowage why tj/tiny -n team."
    )


def test_a_job_whose_pods_are_refused_says_so() -> None:
    life = Life()
    step = next_step(life.job, structs.replace(life.seen(), refused="exceeded quota"))
    assert step.status.message == "The API server refuses a part of the job: exceeded quota"


def test_a_job_of_a_queue_says_that_it_waits_for_quota() -> None:
    life = Life(queueName="team-queue")
    life.step()
    life.make(place=False)
    life.pods = {name: structs.replace(pod, gates=("kueue.x-k8s.io/admission",)) for name, pod in life.pods.items()}
    life.step()
    assert life.status.message == "Kueue holds the pods until queue team-queue has quota for all of them."


def test_a_job_that_starts_says_what_is_still_to_come() -> None:
    life = placed()
    unheard = "Every pod has a node; the operator does not hear the coordinator, pod tiny-coordinator, yet."
    assert (life.status.message, condition(life, "Running").message) == (unheard, unheard)
    life.tell("Preparing")
    life.step()
    assert life.status.message == "Every pod has a node; every rank starts once all supervisors are connected."
    life.tell("Running", started_at=life.now)
    life.step()
    assert (life.status.phase, life.status.message) == (JobPhase.RUNNING, "")


def test_a_failure_stays_told_beside_what_the_new_pod_waits_for() -> None:
    life = Life(template=TEMPLATE).run()
    life.fails(error_type="OSError", error_message="stale file handle")
    why = life.status.last_failure.message
    assert (life.status.phase, life.status.message) == (JobPhase.RECOVERING, why)
    waits(life, "trainer", "ImagePullBackOff")
    for _ in range(2):
        life.step()
        assert life.status.message.startswith(why + " Seat s0: container trainer waits for image")
        assert life.status.message.count("waits for image") == 1
    life.pods["tiny-s0-1"] = structs.replace(life.pods["tiny-s0-1"], health=None)
    life.step()
    assert life.status.message == why


def test_long_words_leave_room_for_what_is_waited_for() -> None:
    life = Life(template=TEMPLATE).run()
    life.fails()
    failure = life.status.last_failure.model_copy(update={"message": "x" * MAX_MESSAGE})
    life.job = life.job.model_copy(update={"status": life.status.model_copy(update={"last_failure": failure})})
    waits(life, "trainer", "ImagePullBackOff")
    life.step()
    assert len(life.status.message) <= MAX_MESSAGE
    assert "waits for image registry.example/trainer:7" in life.status.message


def test_a_job_that_changes_its_size_says_why() -> None:
    life = Life()
    life.spec(nodes={"min": 1, "max": 2, "target": 2})
    life.run()
    life.spec(nodes={"min": 1, "max": 2, "target": 1})
    life.step()
    assert life.status.phase is JobPhase.RESIZING
    assert life.status.message == "from 2 to 1 nodes, as asked."
