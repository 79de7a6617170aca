"""How many nodes a job has: what people ask for, nodes that are lost, nodes that come back."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from stowage.decide.training.size import (
    LOOK_SECONDS,
    Limits,
    Size,
    SizeFacts,
    SizeReason,
    decide_size,
    first_size,
    pays,
)

NOW = 10_000.0
LIMITS = Limits(shrink_after=60.0, grow_after=120.0, cooldown=60.0)
FOUR = SizeFacts(sizes=(2, 4, 8), size=4, heading=4, placed=4)
ANY = tuple(range(1, 9))
KEEP = Size(4, 4, SizeReason.UNCHANGED)


def _decided(limits: Limits = LIMITS, **fields: Any) -> Size:
    return decide_size(structs.replace(FOUR, **fields), limits, NOW)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"target": 4}, KEEP, id="it has what is asked for"),
        pytest.param({"target": 2}, Size(2, 2, SizeReason.ASKED), id="fewer are asked for: at once"),
        pytest.param(
            {"target": 2, "resized_at": NOW - 1}, Size(2, 2, SizeReason.ASKED), id="people need not wait for a cooldown"
        ),
        pytest.param(
            {"target": 2, "running": False, "placed": 1},
            Size(2, 2, SizeReason.ASKED),
            id="also while some are missing",
        ),
        pytest.param({"target": 8}, Size(4, 8, SizeReason.ASKED), id="more are asked for: four go on and four come"),
        pytest.param(
            {"target": 8, "heading": 8, "joining": 3, "coming": 4, "room_since": NOW},
            Size(4, 8, SizeReason.UNCHANGED),
            id="three of four are there, and seven nodes are not allowed",
        ),
        pytest.param(
            {"target": 8, "heading": 8, "joining": 4, "coming": 4},
            Size(8, 8, SizeReason.JOINED),
            id="all four can begin",
        ),
        pytest.param(
            {"target": 8, "heading": 8, "joining": 4, "coming": 4, "running": False},
            Size(4, 8, SizeReason.UNCHANGED),
            id="they are there while a failure is put right: first things first",
        ),
        pytest.param(
            {"target": 8, "heading": 8, "joining": 4, "coming": 4, "resized_at": NOW - 20},
            Size(4, 8, SizeReason.UNCHANGED, NOW + 40),
            id="they came back right after others were lost",
        ),
        pytest.param(
            {
                "sizes": (1, 2, 3, 4, 5, 6, 7, 8),
                "target": 8,
                "heading": 8,
                "joining": 2,
                "coming": 2,
                "room_since": NOW - 20,
            },
            Size(4, 8, SizeReason.UNCHANGED, NOW + 100),
            id="some of them could begin: the others have time",
        ),
        pytest.param(
            {
                "sizes": (1, 2, 3, 4, 5, 6, 7, 8),
                "target": 8,
                "heading": 8,
                "joining": 2,
                "coming": 2,
                "room_since": NOW - 120,
            },
            Size(6, 8, SizeReason.JOINED),
            id="the others did not come: those that did begin",
        ),
        pytest.param({"sizes": (2, 3)}, Size(3, 3, SizeReason.ASKED), id="four are not allowed any more"),
        pytest.param({"sizes": (8,)}, Size(4, 8, SizeReason.ASKED), id="fewer than eight are not allowed any more"),
    ],
)
def test_what_people_ask_for(fields: dict[str, Any], expected: Size) -> None:
    assert _decided(**fields) == expected


LOST = {"placed": 3, "running": False, "missing_since": NOW - 60}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(LOST, Size(2, 2, SizeReason.NODES_MISSING), id="one had no node for as long as is waited"),
        pytest.param(
            {**LOST, "missing_since": NOW - 20}, Size(4, 4, SizeReason.UNCHANGED, NOW + 40), id="it may still come"
        ),
        pytest.param(
            {**LOST, "room": 1},
            Size(4, 4, SizeReason.UNCHANGED, NOW + LOOK_SECONDS),
            id="there is room for it: it is about to be placed",
        ),
        pytest.param(
            {**LOST, "room": 1, "missing_since": NOW - 120},
            Size(2, 2, SizeReason.NODES_MISSING),
            id="there seems to be room, and nobody places it there",
        ),
        pytest.param(
            {**LOST, "resized_at": NOW - 30}, Size(4, 4, SizeReason.UNCHANGED, NOW + 30), id="it has just been resized"
        ),
        pytest.param(
            {**LOST, "placed": 1},
            Size(4, 4, SizeReason.UNCHANGED, NOW + LOOK_SECONDS),
            id="two are the fewest, and there is one",
        ),
        pytest.param(
            {**LOST, "placed": 0, "room": 3},
            Size(2, 2, SizeReason.NODES_MISSING),
            id="a gang of four has room for three",
        ),
        pytest.param({**LOST, "sizes": (4,)}, KEEP, id="the number is fixed"),
        pytest.param(
            {**LOST, "target": 4},
            Size(2, 4, SizeReason.NODES_MISSING),
            id="four are asked for: two go on",
        ),
    ],
)
def test_nodes_that_are_missing(fields: dict[str, Any], expected: Size) -> None:
    assert _decided(**fields) == expected


ROOM = {"room": 5, "room_since": NOW - 120}
LOOKS = Size(4, 4, SizeReason.UNCHANGED, NOW + LOOK_SECONDS)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(ROOM, Size(4, 8, SizeReason.ROOM_FOR_MORE), id="there has been room for four more for long"),
        pytest.param({"room": 3, "room_since": NOW - 999}, LOOKS, id="seven are not allowed"),
        pytest.param({**ROOM, "room_since": NOW - 10}, LOOKS, id="the room may be gone again soon"),
        pytest.param({**ROOM, "room_since": NOW - 115}, Size(4, 4, SizeReason.UNCHANGED, NOW + 5), id="too early"),
        pytest.param({**ROOM, "resized_at": NOW - 55}, Size(4, 4, SizeReason.UNCHANGED, NOW + 5), id="it cools down"),
        pytest.param({**ROOM, "asked_at": NOW - 30}, LOOKS, id="a moment ago nothing came"),
        pytest.param({**ROOM, "held_until": NOW + 600}, LOOKS, id="it shrank because it failed again and again"),
        pytest.param({**ROOM, "resumable": False}, LOOKS, id="without a checkpoint all would begin anew"),
        pytest.param({**ROOM, "running": False}, LOOKS, id="a failure is being put right"),
        pytest.param({**ROOM, "horizon_seconds": 119.0}, LOOKS, id="it may fail before that is worth a start"),
        pytest.param({**ROOM, "horizon_seconds": 121.0}, Size(4, 8, SizeReason.ROOM_FOR_MORE), id="just worth it"),
        pytest.param(
            {"heading": 8, "coming": 4, "asked_at": NOW - 999}, Size(4, 8, SizeReason.UNCHANGED), id="all have nodes"
        ),
        pytest.param(
            {"heading": 8, "joining": 4, "coming": 4, "asked_at": NOW - 5},
            Size(8, 8, SizeReason.JOINED),
            id="all begin",
        ),
        pytest.param(
            {"heading": 8, "coming": 3, "asked_at": NOW - 20},
            Size(4, 8, SizeReason.UNCHANGED, NOW + 40),
            id="one has no node yet",
        ),
        pytest.param(
            {"heading": 8, "coming": 3, "asked_at": NOW - 60},
            Size(4, 4, SizeReason.GIVEN_UP),
            id="one got no node",
        ),
        pytest.param(
            {"size": 8, "heading": 8, "placed": 8, "room": 9}, Size(8, 8, SizeReason.UNCHANGED), id="the most"
        ),
    ],
)
def test_room_for_more(fields: dict[str, Any], expected: Size) -> None:
    assert _decided(**fields) == expected


@pytest.mark.parametrize(
    ("restart_seconds", "shrinks_after", "grows_after"),
    [
        pytest.param(60.0, 60.0, 60.0, id="as long as a start takes"),
        pytest.param(1.0, 15.0, 30.0, id="a start is quick: nodes are slower"),
        pytest.param(3600.0, 600.0, 600.0, id="a start takes an hour: nobody waits for that long"),
    ],
)
def test_auto_waits_for_as_long_as_the_change_costs(
    restart_seconds: float, shrinks_after: float, grows_after: float
) -> None:
    auto = Limits()
    lost = {"placed": 3, "restart_seconds": restart_seconds}
    assert _decided(auto, **lost, missing_since=NOW - shrinks_after + 1).size == 4
    assert _decided(auto, **lost, missing_since=NOW - shrinks_after).size == 2
    room = {"room": 4, "restart_seconds": restart_seconds}
    assert _decided(auto, **room, room_since=NOW - grows_after + 1).heading == 4
    assert _decided(auto, **room, room_since=NOW - grows_after).heading == 8


@pytest.mark.parametrize(
    ("target", "room", "expected"),
    [
        pytest.param(None, 9, 8, id="as many as there is room for"),
        pytest.param(None, 5, 4, id="as many of those that are allowed"),
        pytest.param(None, 0, 2, id="no room: the fewest wait"),
        pytest.param(8, 0, 8, id="as asked"),
    ],
)
def test_with_how_many_a_job_begins(target: int | None, room: int, expected: int) -> None:
    assert first_size((2, 4, 8), target, room) == expected


def test_a_larger_job_has_to_be_further_in_the_end() -> None:
    assert pays(4, 8, restart_seconds=60, horizon_seconds=121)
    assert not pays(4, 8, restart_seconds=60, horizon_seconds=120), "as far as before is no reason to stop all ranks"
    assert not pays(7, 8, restart_seconds=60, horizon_seconds=480)
