"""What the pictures show, and that they can be drawn at all."""

from __future__ import annotations

from pathlib import Path

from harness.facts import node, pod, snapshot
from stowage.demo.pictures import draw, picture
from stowage_scheduler.cluster import Snapshot


def cluster() -> Snapshot:
    return snapshot(
        node("n1"),
        node("n2"),
        pod("a-1", 500, on="n1", priority=100),
        pod("b-1", 250, on="n1", priority=200),
        pod("c-1", 600, priority=300),
        pod("d-1", 600, priority=300),
    )


def test_blocks_are_stacked_by_priority_and_size_as_shares_of_the_node() -> None:
    shown = picture(cluster(), title="t", subtitle="s")
    assert [(column.name, column.blocks) for column in shown.columns] == [
        ("n1", ((0.25, 200, False), (0.5, 100, False))),
        ("n2", ()),
    ]
    assert shown.pending == ((0.6, 300), (0.6, 300))
    assert shown.priorities == [300, 200, 100]


def test_pods_that_came_or_moved_are_marked() -> None:
    now = snapshot(node("n1"), node("n2"), pod("a-1", 500, on="n2"), pod("b-1", 250, on="n1"), pod("e-1", 100, on="n1"))
    shown = picture(now, title="t", subtitle="s", earlier=cluster())
    assert [[new for _, _, new in column.blocks] for column in shown.columns] == [[False, True], [True]]


def test_finished_pods_and_pods_without_the_resource_are_left_out() -> None:
    now = snapshot(node("n1", extra={"gpu": 2}), pod("a-1", on="n1"), pod("b-1", on="n1", extra={"gpu": 1}), node("n2"))
    shown = picture(now, title="t", subtitle="s", resource="gpu")
    assert [(column.name, column.blocks) for column in shown.columns] == [("n1", ((0.5, 0, False),))]


def test_a_picture_becomes_a_file(tmp_path: Path) -> None:
    for name, facts in {"some": cluster(), "none": snapshot()}.items():
        file = tmp_path / f"{name}.png"
        draw(picture(facts, title="t", subtitle="s"), file)
        assert file.read_bytes().startswith(b"\x89PNG")
