"""The size of a job through any history: allowed ones only, changes by itself a cooldown apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct, structs

from stowage.decide.training.size import Limits, Size, SizeFacts, SizeReason, decide_size

TICK_SECONDS = 5.0
BY_ITSELF = {SizeReason.JOINED, SizeReason.NODES_MISSING}

ALLOWED = st.sets(st.integers(1, 12), min_size=1, max_size=6).map(lambda sizes: tuple(sorted(sizes)))
AUTO_OR_SECONDS = st.none() | st.sampled_from([0.0, 5.0, 30.0, 120.0])
LIMITS = st.builds(Limits, AUTO_OR_SECONDS, AUTO_OR_SECONDS, st.sampled_from([0.0, 5.0, 60.0, 300.0]))


class World(Struct, frozen=True):
    """What happens in one tick: nodes that this job may use, whether pods start, what people ask for."""

    nodes: int
    starts: bool
    asked: int | None


WORLDS = st.lists(st.builds(World, st.integers(0, 14), st.booleans(), st.none() | st.integers(0, 5)), max_size=60)


def _facts(draw: st.DrawFn) -> SizeFacts:
    sizes = draw(ALLOWED)
    size = draw(st.sampled_from(sizes))
    placed = draw(st.integers(0, size))
    heading = max(size, draw(st.sampled_from(sizes)))
    coming = draw(st.integers(0, heading - size))
    past = st.none() | st.floats(0, 1000)
    return SizeFacts(
        sizes=sizes,
        size=size,
        heading=heading,
        placed=placed,
        coming=coming,
        joining=draw(st.integers(0, coming)),
        running=draw(st.booleans()),
        target=draw(st.none() | st.sampled_from(sizes)),
        room=draw(st.integers(0, 12)),
        missing_since=draw(past),
        room_since=draw(past),
        resized_at=draw(past),
        asked_at=draw(past),
        held_until=draw(st.floats(0, 2000)),
        resumable=draw(st.booleans()),
    )


ANY = st.composite(_facts)()


@given(ANY, LIMITS)
def test_only_allowed_sizes_are_chosen_and_none_for_which_pods_lack(facts: SizeFacts, limits: Limits) -> None:
    decided = decide_size(facts, limits, 1000.0)
    assert decided.size in facts.sizes
    assert decided.heading >= decided.size
    assert facts.sizes[0] <= decided.heading <= facts.sizes[-1]
    assert decided.size <= max(facts.size, facts.size + facts.joining)
    if decided.reason is SizeReason.NODES_MISSING:
        assert decided.size < facts.size
        assert decided.size <= facts.placed + facts.room
    if len(facts.sizes) == 1:
        assert decided.size == facts.size, "a number that is fixed never changes"


@given(ANY, LIMITS)
def test_deciding_again_about_what_was_decided_changes_nothing(facts: SizeFacts, limits: Limits) -> None:
    decided = decide_size(facts, limits, 1000.0)
    if decided.size > facts.size or decided.size < facts.size:
        after = structs.replace(
            facts,
            size=decided.size,
            heading=decided.heading,
            placed=min(decided.size, max(facts.placed, decided.size - facts.size + facts.placed)),
            joining=0,
            coming=0,
            room=0,
            resized_at=1000.0,
            asked_at=1000.0,
            missing_since=1000.0,
        )
        again = decide_size(after, Limits(5.0, 5.0, 60.0), 1000.0)
        assert again.size == decided.size


@given(ALLOWED, LIMITS, WORLDS, st.data())
def test_through_any_history_it_never_flaps(
    sizes: tuple[int, ...], limits: Limits, worlds: list[World], data: st.DataObject
) -> None:
    now, size, heading = 0.0, data.draw(st.sampled_from(sizes)), 0
    target: int | None = None
    missing_since = room_since = resized_at = asked_at = None
    changed_by_itself: float | None = None
    for world in worlds:
        now += TICK_SECONDS
        if world.asked is not None:
            target = None if world.asked == 0 else sizes[world.asked % len(sizes)]
        heading = max(heading, size)
        placed = min(size, world.nodes)
        coming = min(heading - size, world.nodes - placed)
        room = max(0, world.nodes - placed - coming)
        missing_since = (missing_since or now) if placed < size else None
        room_since = (room_since or now) if room or coming else None
        facts = SizeFacts(
            sizes, size, heading, placed, coming if world.starts else 0, coming, placed == size and world.starts,
            target, room, missing_since, room_since, resized_at, asked_at,
        )  # fmt: skip
        decided: Size = decide_size(facts, limits, now)
        assert decided.size in sizes
        if decided.size != size:
            if decided.reason in BY_ITSELF:
                before = resized_at if resized_at is not None else changed_by_itself
                assert before is None or now - before >= limits.cooldown
                changed_by_itself = now
            else:
                assert decided.reason is SizeReason.ASKED
                assert target is not None
            resized_at = now
        if decided.heading != heading:
            asked_at = now
        assert decided.again_at is None or decided.again_at > now - TICK_SECONDS
        size, heading = decided.size, decided.heading


@given(ALLOWED.filter(lambda sizes: len(sizes) > 1), LIMITS, st.integers(0, 12))
def test_when_nothing_more_happens_it_comes_to_rest(sizes: tuple[int, ...], limits: Limits, nodes: int) -> None:
    now, size, heading, changes = 0.0, sizes[-1], sizes[-1], 0
    missing_since = room_since = resized_at = asked_at = None
    for _ in range(600):
        now += TICK_SECONDS
        placed = min(size, nodes)
        coming = min(heading - size, nodes - placed)
        room = max(0, nodes - placed - coming)
        missing_since = (missing_since or now) if placed < size else None
        room_since = (room_since or now) if room or coming else None
        facts = SizeFacts(
            sizes, size, heading, placed, coming, coming, placed == size,
            None, room, missing_since, room_since, resized_at, asked_at,
        )  # fmt: skip
        decided = decide_size(facts, limits, now)
        if decided.size != size:
            changes, resized_at = changes + 1, now
        if decided.heading != heading:
            asked_at = now
        size, heading = decided.size, decided.heading
    best = max((one for one in sizes if one <= nodes), default=None)
    assert size == (best if best is not None else sizes[-1]), "as many as there are nodes, or it waits as it is"
    assert changes <= 1
