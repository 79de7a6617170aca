"""Facts and snapshots of 5,000 nodes and 50,000 pods, without a cluster: from the bytes of objects to a snapshot.

Times are CPU seconds of this process, which nothing else on the machine can lengthen much.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable
from statistics import median

import msgspec
import pytest

from harness.large_objects import Document, LargeCluster
from harness.measurements import Record, at_most
from harness.process_figures import ProcessFigures
from stowage.observe.reflector import Absent, ObjectKey, Present
from stowage.observe.store import Store
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import fact_of
from stowage_scheduler.kube.snapshot import assemble

OBJECTS = LargeCluster(nodes=5_000, pods=50_000, pending=50)
BENCH = "snapshot, 5,000 nodes and 50,000 pods"
CHANGES = 100
REPEATS = 20

clock = time.process_time


def tell(store: Store, document: Document) -> None:
    """What a reflector does with an object that was listed or has changed."""
    metadata = document["metadata"]
    fact = fact_of(decode_object(document["kind"], msgspec.json.encode(document)))
    store.handle(document["kind"], Present(ObjectKey(metadata.get("namespace", ""), metadata["name"]), fact))


@pytest.fixture(scope="module")
def store() -> Store:
    """A store that has seen everything."""
    filled = Store(now=lambda: 0.0)
    for document in itertools.chain(OBJECTS.workload_documents(), OBJECTS.node_documents(), OBJECTS.pod_documents()):
        tell(filled, document)
    return filled


def seconds(action: Callable[[], object]) -> float:
    """CPU seconds of an action, garbage collection included."""
    started = clock()
    action()
    return clock() - started


def test_facts_of_pods(record: Record) -> None:
    raws = [msgspec.json.encode(OBJECTS.pod(number)) for number in range(20_000)]
    before = ProcessFigures.of("self").resident_mb
    facts = []
    spent = seconds(lambda: facts.extend(fact_of(decode_object("Pod", raw)) for raw in raws))
    grown = ProcessFigures.of("self").resident_mb - before
    record("facts of pods", "from bytes to fact", spent / len(raws) * 1e6, "µs", bytes=len(raws[0]))
    record("facts of pods", "memory", grown / len(raws) * 1e6, "B")
    assert len({id(fact.labels) for fact in facts}) <= len(raws) / 50  # type: ignore[union-attr]


def test_snapshots(store: Store, record: Record) -> None:
    def from_scratch() -> Snapshot:
        return assemble(
            0.0,
            nodes=store.nodes.values(),
            pods=store.pods.values(),
            budgets=store.budgets.values(),
            namespace_labels={name: namespace.labels for name, namespace in store.namespaces.items()},
        )

    full = seconds(lambda: store.snapshot(0.0))
    scratch = median(seconds(from_scratch) for _ in range(3))
    unchanged = median(seconds(lambda: store.snapshot(1.0)) for _ in range(REPEATS))
    assert len(store.snapshot(1.0).pods) == OBJECTS.pods
    numbers = itertools.cycle(range(OBJECTS.pods - OBJECTS.pending))
    states = itertools.cycle([False] * 2000 + [True] * 2000)

    def change_pods() -> None:
        for _ in range(CHANGES):
            tell(store, OBJECTS.pod(next(numbers) * 17 % OBJECTS.pods, ready=next(states)))

    after_pods = []
    for _ in range(REPEATS):
        change_pods()
        after_pods.append(seconds(lambda: store.snapshot(2.0)))
    after_nodes = []
    node = next(OBJECTS.node_documents())
    for _ in range(REPEATS // 2):
        store.handle("Node", Absent(ObjectKey("", node["metadata"]["name"])))
        change_pods()
        after_nodes.append(seconds(lambda: store.snapshot(3.0)))
        tell(store, node)
        after_nodes.append(seconds(lambda: store.snapshot(4.0)))
    gc.collect()
    first = record(BENCH, "first", full, "s", target=at_most(1))
    record(BENCH, "all at once, from scratch", scratch, "s", target=at_most(1))
    record(BENCH, "nothing changed", unchanged * 1e3, "ms")
    later = record(BENCH, f"after {CHANGES} changed pods", median(after_pods) * 1e3, "ms", target=at_most(50))
    record(BENCH, f"after {CHANGES} changed pods, slowest of {REPEATS}", max(after_pods) * 1e3, "ms")
    other = record(BENCH, "after a node came or went", median(after_nodes) * 1e3, "ms", target=at_most(50))
    assert first.met
    assert later.met
    assert other.met
