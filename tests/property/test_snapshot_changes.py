"""Snapshots sent as changes arrive as they were, whatever changed and whatever got lost on the way."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.facts import node, pod, snapshot
from stowage.run.snapshot_changes import Changes, Receiver, Sender
from stowage_scheduler.cluster import Snapshot, Workload


def start() -> Snapshot:
    workloads = tuple(Workload("ReplicaSet", "default", f"web-{n}", f"uid-web-{n}") for n in range(3))
    nodes, pods = [node(f"n{n}") for n in range(4)], [pod(f"web-{n}", on=f"n{n % 4}") for n in range(8)]
    return snapshot(*nodes, *pods, workloads=workloads)


def changed(before: Snapshot, chance: random.Random) -> Snapshot:
    """A few facts come, go or become others; the rest are the same objects."""
    pods = [one for one in before.pods if chance.random() < 0.9]
    pods = [replace(one, ready=not one.ready) if chance.random() < 0.1 else one for one in pods]
    pods += [pod(f"new-{chance.randrange(1_000)}") for _ in range(chance.randint(0, 2))]
    pods += [chance.choice(pods)] if pods and chance.random() < 0.05 else []  # two with one UID
    nodes = [one for one in before.nodes if chance.random() < 0.9]
    nodes = [replace(one, unschedulable=True) if chance.random() < 0.1 else one for one in nodes]
    chance.shuffle(pods)
    labels = {"default": {"team": chance.choice("ab")}}
    return replace(before, now=before.now + 1, pods=tuple(pods), nodes=tuple(nodes), namespace_labels=labels)


def in_order(one: Snapshot) -> Snapshot:
    """The order of facts carries no meaning."""
    return replace(
        one,
        pods=tuple(sorted(one.pods, key=lambda fact: (fact.uid, fact.ready))),
        nodes=tuple(sorted(one.nodes, key=lambda fact: fact.name)),
        workloads=tuple(sorted(one.workloads, key=lambda fact: fact.uid)),
    )


@settings(max_examples=200)
@given(st.integers(0, 2**32))
def test_snapshots_arrive_as_they_were(seed: int) -> None:
    chance = random.Random(seed)
    sender, receiver, now = Sender(), Receiver(), start()
    for _ in range(10):
        now = changed(now, chance)
        if chance.random() < 0.1:
            receiver = Receiver()  # its process is new
        if chance.random() < 0.1:
            sender.changes(now)  # nobody receives it
        arrived = receiver.snapshot(sender.changes(now))
        if arrived is None:
            arrived = receiver.snapshot(sender.whole(now))
        assert arrived is not None
        assert in_order(arrived) == in_order(now)


def test_only_what_changed_is_sent_and_the_rest_is_kept() -> None:
    sender, receiver, first = Sender(), Receiver(), start()
    before = receiver.snapshot(sender.changes(first))
    second = replace(first, pods=(*first.pods[1:], replace(first.pods[0], ready=False)), workloads=first.workloads[1:])
    message = sender.changes(second)
    sent = msgspec.msgpack.decode(message, type=Changes)
    assert [one.uid for one in sent.rest.pods] == [first.pods[0].uid]
    assert (sent.rest.nodes, sent.rest.workloads) == ((), ())
    assert sent.gone == {"nodes": (), "pods": (), "workloads": ("uid-web-0",)}
    after = receiver.snapshot(message)
    assert before is not None
    assert after is not None
    assert sum(any(one is other for other in before.pods) for one in after.pods) == len(first.pods) - 1


def test_changes_of_a_snapshot_that_is_not_here_are_not_understood() -> None:
    sender, first = Sender(), start()
    sender.whole(first)
    assert Receiver().snapshot(sender.changes(first)) is None
