"""What a process says of its view: what is lost, why, what is doubted, and when it hangs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from stowage.observe.reflector import Reflector
from stowage.observe.trouble import Trouble, TroubleReason
from stowage.run.freshness import Sight, stuck

FORBIDDEN = Trouble(TroubleReason.FORBIDDEN, "GET /pods: 403")


@dataclass
class Following:
    """As much of a reflector as its view needs."""

    synced: bool = True
    disconnected_since: float | None = None
    trouble: Trouble | None = None
    hangs_seconds: float = 0.0
    distrusted: list[str] = field(default_factory=list)

    def stuck_seconds(self) -> float:
        return self.hangs_seconds

    def distrust(self, why: str) -> None:
        self.distrusted.append(why)


class View:
    """A view of pods and jobs at a time that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pods, self.jobs = Following(), Following()
        self.beside: dict[str, Trouble] = {}
        self.reflectors = cast("dict[str, Reflector[Any]]", {"Pod": self.pods, "Job": self.jobs})
        self.sight = Sight(self.reflectors, lambda: self.now, lambda: self.beside)


def test_all_is_seen() -> None:
    view = View()
    assert view.sight.complete
    assert (view.sight.degraded(), view.sight.problems()) == ({}, [])


def test_a_watch_that_is_resumed_soon_is_no_trouble_one_that_is_not_is() -> None:
    view = View()
    view.pods.disconnected_since, view.pods.trouble = 99.0, FORBIDDEN
    assert view.sight.complete
    assert view.sight.degraded() == {}
    view.now = 102.5
    assert not view.sight.complete
    assert view.sight.degraded() == {"Pod": "Forbidden: GET /pods: 403"}
    assert view.sight.problems() == ["Pod is not followed: Forbidden: GET /pods: 403"]


def test_what_is_followed_by_other_means_counts_for_the_words_alone() -> None:
    view = View()
    view.beside = {"packingpolicies": Trouble(TroubleReason.NOT_SERVED, "404")}
    assert view.sight.complete
    assert view.sight.problems() == ["packingpolicies is not followed: NotServed: 404"]


def test_a_start_that_takes_a_while_is_not_ready_and_not_degraded() -> None:
    view = View()
    view.pods.synced, view.pods.disconnected_since = False, 0.0
    assert view.sight.degraded() == {}
    assert view.sight.problems() == ["first lists are not complete"]
    view.pods.trouble = FORBIDDEN
    assert "Pod" in view.sight.degraded()


def test_each_change_of_the_view_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    view = View()
    view.pods.disconnected_since, view.pods.trouble = 0.0, FORBIDDEN
    for _ in range(5):
        view.sight.troubles()
    view.pods.disconnected_since = None
    for _ in range(5):
        view.sight.troubles()
    assert [record.getMessage() for record in caplog.records] == [
        "degraded, nothing new is begun: not followed: Pod (Forbidden)",
        "everything is followed again",
    ]


@pytest.mark.parametrize(
    ("doubts_at", "left"),
    [
        pytest.param([0.0], 0, id="a doubt may be a matter of milliseconds"),
        pytest.param([0.0, 1.0], 0, id="a second is too short"),
        pytest.param([0.0, 1.0, 2.0], 1, id="two seconds are not"),
        pytest.param([0.0, 60.0, 120.0], 0, id="old doubts were dispelled"),
        pytest.param([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 2, id="a new watch may be frozen too"),
    ],
)
def test_a_watch_is_left_when_the_server_knows_more_for_too_long(doubts_at: list[float], left: int) -> None:
    view = View()
    for at in doubts_at:
        view.now = at
        view.sight.doubt("Pod")
    assert len(view.pods.distrusted) == left
    assert view.jobs.distrusted == []


def test_a_process_is_started_again_when_a_part_hangs_and_for_no_other_reason() -> None:
    view = View()
    view.pods.disconnected_since, view.pods.trouble = 0.0, FORBIDDEN
    view.now = 10_000.0
    assert stuck(view.reflectors, 120.0) == []
    view.jobs.hangs_seconds = 121.0
    assert stuck(view.reflectors, 120.0) == ["following Job hangs for 121 s"]
