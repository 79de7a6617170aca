"""Node files: what they declare, and what is said of files that can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from stowage.demo.local_cluster import DEFAULT_NODES_FILE
from stowage.demo.simulated_nodes import NodeFileError, NodeGroup, read_node_file

SMALLEST = "groups: [{namePrefix: n-, count: 2, cpu: 4, memory: 8Gi}]"


def test_gpu_nodes_are_dealt_out_to_zones_and_racks() -> None:
    group = NodeGroup(
        name_prefix="g-",
        count=5,
        cpu="8",
        memory="64Gi",
        gpus=4,
        gpu_product="A100",
        zones=("a", "b"),
        racks_per_zone=2,
    )

    places = [
        (labels["topology.kubernetes.io/zone"], labels["topology.kubernetes.io/rack"])
        for labels in (node["metadata"]["labels"] for node in group.documents())
    ]

    assert places == [("a", "a-rack-1"), ("b", "b-rack-1"), ("a", "a-rack-2"), ("b", "b-rack-2"), ("a", "a-rack-1")]
    assert group.documents()[4]["status"]["allocatable"]["nvidia.com/gpu"] == "4"


def test_the_smallest_file_makes_plain_nodes(tmp_path: Path) -> None:
    file = tmp_path / "nodes.yaml"
    file.write_text(SMALLEST)

    nodes = read_node_file(file).documents()

    assert [node["metadata"]["name"] for node in nodes] == ["n-1", "n-2"]
    assert nodes[0]["status"]["capacity"] == {"cpu": "4", "memory": "8Gi", "pods": "110"}


def test_the_default_file_is_usable() -> None:
    assert len(read_node_file(DEFAULT_NODES_FILE).documents()) == 14


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("groups: [", "not YAML", id="broken YAML"),
        pytest.param("nodes: 3", "groups: Field required", id="another format"),
        pytest.param(SMALLEST.replace("4", "four"), "groups.0.cpu", id="no quantity"),
        pytest.param(SMALLEST.replace("count: 2", "count: -1"), "groups.0.count", id="negative count"),
        pytest.param(SMALLEST.replace("}", ", colour: red}"), "groups.0.colour", id="unknown field"),
        pytest.param(f"{SMALLEST[:-1]}, {SMALLEST[9:]}", "two groups make a node named n-1", id="one name twice"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "nodes.yaml"
    file.write_text(text)

    with pytest.raises(NodeFileError, match=message) as refused:
        read_node_file(file)

    assert "\n" not in str(refused.value)
    assert str(file) in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NodeFileError, match="No such file"):
        read_node_file(tmp_path / "none.yaml")
