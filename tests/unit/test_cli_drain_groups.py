"""What `stowage drain` does about replicas of several pods, which their ModelService moves."""

from __future__ import annotations

from unit.test_cli_answers import node, pod
from unit.test_cli_drain_live import Cluster, rules


async def test_pods_of_a_services_group_are_waited_for_once_the_node_is_cordoned() -> None:
    member = pod("chat-0", "1", on="old")
    owner = {
        "apiVersion": "stowage.dev/v1alpha1",
        "kind": "ModelService",
        "name": "chat",
        "uid": "c",
        "controller": True,
    }
    member["metadata"] |= {"labels": {"stowage.dev/group-index": "0"}, "ownerReferences": [owner]}
    cluster = Cluster(node("old"), node("new"), rules(), member)

    def soon() -> None:
        assert cluster.cordoned("old")
        if len(cluster.pauses) == 3:
            cluster.drop("chat-0")

    cluster.on_pause = soon
    assert (await cluster.drain()).drained
    assert not cluster.plans, "the operator moves it, and budgets refuse evictions meanwhile"
    assert "waiting for pods on their way out: a/chat-0" in cluster.words
