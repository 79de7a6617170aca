"""Room for one more pod of a job, and which seats go when it becomes smaller."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from stowage.api.durations import instant
from stowage.api.training_job import TrainingJob
from stowage.api.training_job_status import AvoidedNode
from stowage.decide.training.room import room_for
from stowage.decide.training.victims import Standing, victims
from stowage_scheduler.cluster import Node
from unit.builders import NOW, pod, snapshot

EIGHT_CORES = {"cpu": 8000, "memory": 2**34, "pods": 110}
RACKS = {"n0": "a", "n1": "a", "n2": "b", "n3": "b", "n4": "b"}


def _job(limits: dict[str, str] | None = None, avoid: tuple[str, ...] = (), **spec: Any) -> TrainingJob:
    container = {"name": "trainer", "command": ["python", "train.py"], "resources": {"limits": limits or {"cpu": "4"}}}
    document = {
        "metadata": {"name": "tiny", "namespace": "team", "uid": "0123456789ab"},
        "spec": {"nodes": {"min": 1, "max": 8}, "template": {"spec": {"containers": [container]}}, **spec},
    }
    job = TrainingJob.parse(document)
    avoided = tuple(AvoidedNode(node=name, at=instant(NOW)) for name in avoid)
    return job.model_copy(update={"status": job.status.model_copy(update={"avoided_nodes": avoided})})


def _cluster(*pods: Any, **closed: dict[str, Any]) -> Any:
    sound = Node("any", EIGHT_CORES)
    nodes = [
        structs.replace(sound, name=name, uid=name, labels={"rack": rack}, **closed.get(name, {}))
        for name, rack in RACKS.items()
    ]
    return snapshot(*nodes, *pods)


def _full(name: str, **fields: Any) -> Any:
    return pod(f"on-{name}", name, cpu=6000, **fields)


@pytest.mark.parametrize(
    ("job", "cluster", "taken", "expected"),
    [
        pytest.param(_job(), _cluster(), (), 5, id="each node takes one"),
        pytest.param(_job(nodes={"min": 1, "max": 3}), _cluster(), (), 3, id="the job never has more than three"),
        pytest.param(_job(), _cluster(), ("n0", "n1"), 3, id="a seat is a node: those of the job do not count"),
        pytest.param(_job(), _cluster(_full("n0")), (), 4, id="another pod needs the room"),
        pytest.param(_job(), _cluster(_full("n0", phase="Succeeded")), (), 5, id="that pod has ended"),
        pytest.param(_job({"cpu": "9"}), _cluster(), (), 0, id="no node is so large"),
        pytest.param(_job({"nvidia.com/gpu": "1"}), _cluster(), (), 0, id="no node has a GPU"),
        pytest.param(_job({"cpu": "four"}), _cluster(), (), 0, id="such a pod would be refused"),
        pytest.param(_job(), _cluster(n0={"unschedulable": True}, n1={"ready": False}), (), 3, id="closed nodes"),
        pytest.param(_job(avoid=("n4",)), _cluster(), (), 4, id="a node that the job keeps away from"),
        pytest.param(
            _job(topology={"pack": "Required", "keys": ["rack"]}), _cluster(), (), 3, id="in one rack: the larger one"
        ),
        pytest.param(
            _job(topology={"pack": "Required", "keys": ["rack"]}), _cluster(), ("n0",), 1, id="in the rack where it is"
        ),
        pytest.param(_job(topology={"keys": ["rack"]}), _cluster(), ("n0",), 4, id="preferably in one rack"),
    ],
)
def test_room(job: TrainingJob, cluster: Any, taken: tuple[str, ...], expected: int) -> None:
    assert room_for(job, cluster, taken) == expected


def _seats(*changed: Standing) -> list[Standing]:
    standing = {
        f"s{number}": Standing(f"s{number}", number, domains=("a" if number < 3 else "b",)) for number in range(5)
    }
    return list((standing | {one.seat: one for one in changed}).values())


def _bad(number: int, **fields: Any) -> Standing:
    return structs.replace(_seats()[number], **fields)


@pytest.mark.parametrize(
    ("seats", "count", "expected"),
    [
        pytest.param(_seats(), 2, ("s4", "s3"), id="the smaller rack goes, the last ones first"),
        pytest.param(_seats(), 3, ("s4", "s3", "s2"), id="then one of the other"),
        pytest.param(_seats(_bad(0, placed=False)), 1, ("s0",), id="who has no node goes before all"),
        pytest.param(
            _seats(_bad(0, connected=False), _bad(1, ready=False), _bad(2, sound=False)),
            4,
            ("s2", "s1", "s0", "s4"),
            id="bad ones, the worst first, then a healthy one",
        ),
        pytest.param(_seats(_bad(1, slow=True)), 1, ("s1",), id="a slow one"),
        pytest.param(_seats(_bad(1, slow=True), _bad(2, ready=False)), 1, ("s2",), id="slow is better than not ready"),
        pytest.param(_seats(), 0, (), id="nobody"),
        pytest.param([Standing("s0", 0), Standing("s1", 1)], 1, ("s1",), id="nothing known: the last one"),
    ],
)
def test_who_goes(seats: list[Standing], count: int, expected: tuple[str, ...]) -> None:
    assert victims(seats, count) == expected
