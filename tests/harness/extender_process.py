"""An extender without a cluster, in a process of its own: `python extender_process.py PLAN EVENTS_PER_SECOND`.

Its table is full of pods; with PLAN `plan` a plan of many slots of 16 classes is running. Pod events go through the
same loop as the questions, as in the real process. It prints its port.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import time
from typing import Any

import msgspec

from stowage.observe.reflector import ObjectKey, Present
from stowage.run import health
from stowage.run.extender_feed import Feed, read_pod
from stowage_scheduler.extender import make_app
from stowage_scheduler.reservations import ActivePlan, Reservations
from stowage_scheduler.slots import Slot, slot_class

NODES = [f"node-{number:04}.cluster.example.com" for number in range(1000)]
RUNNING_PODS = 8000
SLOTS = 256
CLASSES = 16

clock = time.perf_counter


def pod_document(name: str, owner: str, node: str | None = None) -> dict[str, Any]:
    """A pod as large as real ones are, as kube-scheduler sends it."""
    container = {
        "name": "main",
        "image": "registry.example.com/team/image:1.2.3",
        "args": [f"--option-{number}=some-value-{number}" for number in range(20)],
        "env": [{"name": f"VARIABLE_{number}", "value": "x" * 40} for number in range(30)],
        "resources": {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"nvidia.com/gpu": "1"}},
    }
    return {
        "metadata": {
            "name": name,
            "namespace": "team-a",
            "uid": f"uid-{name}",
            "creationTimestamp": "2026-01-01T10:00:00Z",
            "labels": {"app": owner, "pod-template-hash": "5d4f8c7b9d"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": f"rs-{owner}", "controller": True}
            ],
        },
        "spec": {"containers": [container], "schedulerName": "stowage", "nodeName": node, "priority": 100},
        "status": {"phase": "Pending"},
    }


def encoded(name: str, owner: str, node: str | None = None) -> bytes:
    """The same as bytes."""
    return msgspec.json.encode(pod_document(name, owner, node))


def standing(number: int) -> bytes:
    """A pod that runs."""
    return encoded(f"old-{number}", f"old-{number % 50}", NODES[number % len(NODES)])


def fill(table: Reservations, feed: Feed, *, planned: bool) -> None:
    """Tell of all pods, and of a plan."""
    for number in range(RUNNING_PODS):
        feed.on_pod(Present(ObjectKey("team-a", f"old-{number}"), read_pod(standing(number))))
    if planned:
        classes = [slot_class(read_pod(encoded(f"new-{n}-0", f"new-{n}"))) for n in range(CLASSES)]
        slots = tuple(Slot(f"k{i:03}", classes[i % CLASSES], NODES[3 * i % len(NODES)]) for i in range(SLOTS))
        table.plan_seen(ActivePlan("plan", "default-20260101-101500-7f2k", slots))


async def changes(feed: Feed, events_per_second: float) -> None:
    """Pods come and go on the nodes, each event with a body of its own to read."""
    started = clock()
    for number in itertools.count():
        node = None if number % 2 else NODES[number % len(NODES)]
        raw = encoded(f"other-{number // 2 % 100}", "other", node)
        feed.on_pod(Present(ObjectKey("team-a", f"other-{number // 2 % 100}"), read_pod(raw)))
        await asyncio.sleep(max(0.0, started + (number + 1) / events_per_second - clock()))


async def main(plan: str, events_per_second: float) -> None:
    """Serve until the process is ended."""
    table = Reservations(clock)
    feed = Feed(table, on_active=lambda _: None, now=clock)
    fill(table, feed, planned=plan == "plan")
    gc.collect()
    app = make_app(lambda: table, fresh=lambda: True, clock=clock)
    async with health.serve(app, "127.0.0.1", 0) as port:
        print(port, flush=True)
        if events_per_second:
            await changes(feed, events_per_second)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
