"""However late the series of a scrape come by remote write: the scrapes that are taken are those that were made."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from stowage.decide.samples import Sample
from stowage.decide.serving.signals_pod import PodSample
from stowage.observe.serving.names import VLLM
from stowage.observe.serving.scrapes import WHOLE_SECONDS, pod_samples

AT = 1_790_000_000.0
NAMES = ("vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:request_success_total")
SCRAPES = 8
EVERY_SECONDS = 5.0
LAGS = st.lists(
    st.lists(st.floats(0, WHOLE_SECONDS - 1), min_size=len(NAMES), max_size=len(NAMES)),
    min_size=SCRAPES,
    max_size=SCRAPES,
)
"""By scrape and series, seconds after which it can be read."""


def answer(lags: list[list[float]], now: float, window_seconds: float) -> list[Sample]:
    """What a server has at a time, series by series."""
    found = []
    for column, name in enumerate(NAMES):
        labels = {"__name__": name, "namespace": "team", "pod": "chat-1", "instance": "chat-1:8000"}
        for row in range(SCRAPES):
            at = row * EVERY_SECONDS
            if at + lags[row][column] <= now and at > now - window_seconds:
                found.append(Sample(labels, float(10 * row + column), AT + at))
    return found


def taken(lags: list[list[float]], now: float, since: float, window_seconds: float) -> list[PodSample]:
    options = {"pods": None, "port": 8000, "since": {"chat-1": since}, "until": AT + now}
    return pod_samples(answer(lags, now, window_seconds), VLLM, "team", **options).get("chat-1", [])


@given(lags=LAGS, every_seconds=st.floats(0.5, 6.0))
def test_scrapes_in_pieces_are_taken_whole_and_once(lags: list[list[float]], every_seconds: float) -> None:
    lags[0] = [0.0] * len(NAMES)  # what the first ones lack, nobody can know
    end = SCRAPES * EVERY_SECONDS + WHOLE_SECONDS
    found: list[PodSample] = []
    now = 0.0
    while now <= end:
        since = found[-1].at if found else AT - 1.0
        found += taken(lags, now, since, now - (since - AT) + 1.0)  # as a role is asked: from its newest sample on
        now += every_seconds
    prompt = [[0.0] * len(NAMES)] * SCRAPES
    assert found == taken(prompt, end, AT - 1.0, end + 2.0)
