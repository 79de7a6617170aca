"""The stand-in for kube-scheduler's default profile, on states small enough to score by hand."""

from __future__ import annotations

import pytest

from harness.default_scheduler import scheduled
from harness.instances import Instance, PaperPod


def states(*pods: tuple[str, int, int], nodes: int = 2, cpu: int = 1000, memory: int = 1000) -> list[str | None]:
    made = [PaperPod(owner, f"{owner}-{number}", c, m, 1) for number, (owner, c, m) in enumerate(pods)]
    names = tuple(f"n{number}" for number in reversed(range(nodes)))  # the order of the nodes says nothing
    return [pod.node for pod in scheduled(Instance(names, cpu, memory, tuple(made), placeable=False)).pods]


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        pytest.param([("a", 100, 100)], ["n0"], id="of equal nodes the first by name"),
        pytest.param([("a", 300, 300), ("b", 300, 300)], ["n0", "n1"], id="the emptier node"),
        # n0: 55 for what is left and 82 for balance; n1: 75 and 67
        pytest.param([("a", 400, 0), ("b", 100, 400)], ["n0", "n1"], id="emptier counts for more than balanced"),
        # here n0 has 75 and 66, n1 only 77 and 63
        pytest.param([("a", 50, 0), ("b", 0, 450)], ["n0", "n0"], id="balance draws it to the fuller node"),
        pytest.param([("a", 100, 100), ("a", 100, 100)], ["n0", "n1"], id="pods of one owner apart"),
        pytest.param([("a", 600, 1), ("b", 600, 1), ("c", 600, 1)], ["n0", "n1", None], id="no room left: it waits"),
        pytest.param(
            [("a", 500, 500), ("b", 450, 450), ("b", 40, 40)],
            ["n0", "n1", "n0"],
            id="apart from its owner's others, though the node is fuller",
        ),
    ],
)
def test_where_pods_go(pods: list[tuple[str, int, int]], expected: list[str | None]) -> None:
    assert states(*pods) == expected
