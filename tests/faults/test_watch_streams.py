"""Watches that are cut, refused, silenced, doubled or told errors: what follows the cluster stays in step with it.

Times are scaled: a silence of 70 s is 4 s here, an outage of 2 min some seconds. `make faults` plays the long ones.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import Counter
from pathlib import Path

import pytest

from faults.followers import CLASS_LIST, CLASS_WATCH, Follower, following, monotonic, until
from faults.proxy import FaultProxy
from faults.script import Answer, Cut, Duplicate, Fault, Freeze, Hold, InjectError, Match
from faults.traffic import Exchange
from harness.workbench import Workbench
from stowage.run.doorbell import Doorbell
from stowage.transport import Api, paths

WATCHES = Match(verbs=frozenset({"watch"}))
LISTS = Match(verbs=frozenset({"list"}))
LONG = pytest.mark.long_fault


class Classes:
    """PriorityClasses that come and go: objects of which nothing else takes notice."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench
        self._numbers = itertools.count(1)
        self.names: set[str] = set()

    async def come(self) -> str:
        name = await self._workbench.priority_class(f"c-{uuid.uuid4().hex[:8]}", next(self._numbers))
        self.names.add(name)
        return name

    async def go(self) -> str:
        name = self.names.pop()
        await self._workbench.api.delete(paths.named(paths.PRIORITY_CLASSES, name))
        return name

    def ours(self, known: set[str]) -> set[str]:
        return {name for name in known if name.startswith("c-")}


@pytest.fixture
def classes(workbench: Workbench) -> Classes:
    return Classes(workbench)


async def in_step(follower: Follower, classes: Classes, timeout_seconds: float = 30.0) -> None:
    """Waits for longer than the longest pause between two tries, and for less than a silence that nobody noticed."""
    await until(
        lambda: classes.ours(follower.class_names()) == classes.names, "the store equals the cluster", timeout_seconds
    )


def gaps(exchanges: list[Exchange]) -> list[float]:
    """Seconds between requests of one kind."""
    return [later.at_seconds - sooner.at_seconds for sooner, later in itertools.pairwise(exchanges)]


@pytest.mark.parametrize(
    ("abruptly", "seconds"),
    [
        pytest.param(True, 8, id="in its midst"),
        pytest.param(False, 8, id="at its end", marks=LONG),
        pytest.param(False, 300, id="at its end for 5 min", marks=LONG),
    ],
)
async def test_f5_watches_cut_each_second_cost_no_list_and_lose_nothing(
    proxy: FaultProxy, classes: Classes, tmp_path: Path, abruptly: bool, seconds: int
) -> None:
    async with following(proxy, tmp_path) as follower:
        proxy.add(WATCHES, Cut(after_seconds=1.0, abruptly=abruptly))
        tasks = len(asyncio.all_tasks())
        began = monotonic()
        proxy.cut(abruptly=abruptly)
        for round_ in range(seconds):
            await classes.come()
            if round_ % 3 == 2:
                await classes.go()
            await asyncio.sleep(1.0)
        await in_step(follower, classes)
        assert set(follower.lists().values()) == {1}
        await until(lambda: len(proxy.seen(CLASS_WATCH)) >= 4, "each new watch is cut too")
        opened = len(proxy.seen(CLASS_WATCH))
        assert opened <= monotonic() - began + 2  # one a second at most, fewer when it hurts
        await until(lambda: len(asyncio.all_tasks()) <= tasks + 1, "nothing is left behind by a watch")


@pytest.mark.parametrize("code", [410, 500])
async def test_f6_f7_an_error_in_the_stream_leads_to_a_new_list_and_one_list_for_each_pause(
    proxy: FaultProxy, classes: Classes, tmp_path: Path, code: int
) -> None:
    async with following(proxy, tmp_path) as follower:
        came, goes = await classes.come(), await classes.come()
        await in_step(follower, classes)
        held = proxy.add(CLASS_LIST, Hold())
        assert proxy.inject_error(code, CLASS_WATCH) == 1
        await until(lambda: proxy.held(held), "a new list is asked for")
        await classes.go()
        new = await classes.come()
        proxy.clear()
        await in_step(follower, classes)
        assert new in follower.class_names()
        assert len({came, goes} & follower.class_names()) == 1
        assert follower.lists()["PriorityClass"] == 2
        assert set(follower.lists().values()) == {1, 2}  # the other collections were left alone
        # now it never ends: each new watch is told the error at once
        before = len(proxy.exchanges)
        proxy.add(CLASS_WATCH, InjectError(code))
        proxy.inject_error(code, CLASS_WATCH)
        await until(lambda: len(proxy.seen(CLASS_LIST, since=before)) >= 3, "it is listed again and again")
        # pauses of 0.5, 1, 2, 4, … s, half of each by chance; two failures came before the first of these lists
        first, second, *_ = gaps(proxy.seen(CLASS_LIST, since=before))
        assert first >= 1.0
        assert second >= 2.0
        proxy.clear()
        await classes.come()
        await in_step(follower, classes)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        pytest.param(Answer(403), 4, id="the rights are gone"),
        pytest.param(Answer(429, retry_after_seconds=1), 4, id="the server is busy", marks=LONG),
        pytest.param(Answer(500, body=b"<html>a proxy in between</html>"), 4, id="no server at all", marks=LONG),
        pytest.param(Answer(503), 120, id="the server is in trouble for 2 min", marks=LONG),
    ],
)
async def test_f7_f10_f11_lists_and_watches_refused_for_a_while_are_tried_slowly_and_come_back(
    proxy: FaultProxy, classes: Classes, tmp_path: Path, answer: Fault, seconds: int
) -> None:
    async with following(proxy, tmp_path) as follower:
        before = len(proxy.exchanges)
        proxy.add(Match(path=f"^{paths.PRIORITY_CLASSES}$", methods=frozenset({"GET"})), answer)
        proxy.inject_error(500, CLASS_WATCH)
        await classes.come()
        asked = Match(path=f"^{paths.PRIORITY_CLASSES}$")
        await asyncio.sleep(seconds)
        await until(lambda: len(proxy.seen(asked, since=before)) >= 3, "it is tried again and again")
        assert follower.classes.trouble is not None
        await until(lambda: follower.classes.stuck_seconds() < 1.0, "it only pauses")
        # pauses of 0.5, 1, 2, … 20 s, half of each by chance; the watch that was told an error failed first
        for number, gap in enumerate(gaps(proxy.seen(asked, since=before)), start=1):
            assert gap >= min(0.25 * 2**number, 10.0)
        proxy.clear()
        await in_step(follower, classes)
        await until(lambda: follower.classes.trouble is None, "the watch that follows the list is open")
        others = {kind: lists for kind, lists in follower.lists().items() if kind != "PriorityClass"}
        assert set(others.values()) == {1}  # others are served as if nothing had happened


@pytest.mark.parametrize("silence_seconds", [4.0, pytest.param(70.0, marks=LONG)])
async def test_f8_a_stream_that_falls_silent_without_an_end_is_found_out_and_what_it_kept_back_is_listed(
    proxy: FaultProxy, classes: Classes, tmp_path: Path, silence_seconds: float
) -> None:
    async with following(proxy, tmp_path, silence_seconds=silence_seconds) as follower:
        gone = await classes.come()
        await in_step(follower, classes)
        lists = follower.classes.lists
        proxy.freeze()
        await until(lambda: proxy.freeze(CLASS_WATCH), "its watch is frozen")  # the server ends one every 3 s
        await classes.go()
        await classes.come()
        await in_step(follower, classes, silence_seconds + 30.0)
        assert follower.classes.lists > lists
        assert gone not in follower.class_names()
        # and again, with new watches that are silent from their start: the store is never older than one silence
        proxy.add(CLASS_WATCH, Freeze())
        proxy.freeze(CLASS_WATCH)
        for _ in range(1 if silence_seconds < 10 else 3):
            await classes.come()
            await in_step(follower, classes, silence_seconds + 30.0)


async def test_f19_events_that_come_twice_count_once(proxy: FaultProxy, classes: Classes, tmp_path: Path) -> None:
    async with following(proxy, tmp_path) as follower:
        proxy.add(WATCHES, Duplicate(3))
        proxy.cut()
        await until(lambda: len(proxy.watches(CLASS_WATCH)) == 1, "watched again")
        heard = len(follower.changes)
        names = [await classes.come() for _ in range(5)]
        await in_step(follower, classes)
        for name in names[:2]:
            classes.names.remove(name)
            await classes._workbench.api.delete(paths.named(paths.PRIORITY_CLASSES, name))
        await in_step(follower, classes)
        counts = Counter(key for kind, key in follower.changes[heard:] if kind == "PriorityClass" and key in names)
        assert counts == {name: 2 if name in names[:2] else 1 for name in names}
        assert follower.classes.repeated >= 10


async def test_f19_an_object_made_again_under_its_name_is_another_one(
    proxy: FaultProxy, workbench: Workbench, api: Api, tmp_path: Path
) -> None:
    async with following(proxy, tmp_path) as follower:
        name = await workbench.replica_set("web", 1, scheduler_name="nobody")
        await until(lambda: follower.store.workload("ReplicaSet", workbench.namespace, name), "the first is known")
        first = follower.store.workload("ReplicaSet", workbench.namespace, name)
        assert first is not None
        proxy.freeze()
        path = paths.named(paths.in_namespace(paths.REPLICA_SETS, workbench.namespace), name)
        await api.delete(path, {"propagationPolicy": "Background"})
        await workbench.replica_set("web", 2, scheduler_name="nobody")
        proxy.thaw()

        def second() -> bool:
            found = follower.store.workload("ReplicaSet", workbench.namespace, name)
            return found is not None and found.uid != first.uid and found.replicas == 2

        await until(second, "the second is known, and the first forgotten")


async def test_f7_kopf_ends_by_an_error_in_its_stream_and_that_is_heard_of(
    proxy: FaultProxy, workbench: Workbench, tmp_path: Path
) -> None:
    policies = Match(path=f"^{paths.PACKING_POLICIES}$", verbs=frozenset({"watch"}))
    rung: list[str] = []
    async with await Api.connect(kubeconfig=str(proxy.kubeconfig(tmp_path)), user_agent="stowage-test/1") as api:
        bell = Doorbell(api, lambda _, name, __: rung.append(name), audit_seconds=300.0)  # no audit helps
        ringing = asyncio.create_task(bell.run())
        try:
            await until(lambda: proxy.watches(policies), "kopf watches")
            proxy.inject_error(500, policies)
            # it gives its own tasks 5 s
            await until(lambda: bell.starts >= 2, "kopf was started again")
            name = f"p-{workbench.namespace}"
            document = {"apiVersion": "stowage.dev/v1alpha1", "kind": "PackingPolicy", "metadata": {"name": name}}
            await workbench.create(paths.PACKING_POLICIES, {**document, "spec": {"paused": True}})
            await until(lambda: name in rung, "it hears again")
        finally:
            ringing.cancel()
            await asyncio.gather(ringing, return_exceptions=True)
