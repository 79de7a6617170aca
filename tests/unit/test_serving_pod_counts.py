"""What one pod has counted: through restarts, gaps, series that come and go, and requests that have not ended."""

from __future__ import annotations

from typing import Any

import pytest

from stowage.decide.serving.signals_pod import LONGEST_MISSED_SECONDS, Counting, PodCount, PodSample, advanced, begun

AT = 1_790_000_000.0
PLAIN = Counting()


def sample(
    at: float,
    done: float | None = None,
    waiting: float | None = 0,
    running: float | None = 0,
    tokens: float | None = None,
    **fields: Any,
) -> PodSample:
    counters = {("completed", "stop"): done, ("prompt_tokens", ""): tokens}
    known = {key: value for key, value in counters.items() if value is not None}
    return PodSample(AT + at, waiting, running, counters={**known, **fields.pop("more", {})}, **fields)


def after(*samples: PodSample, counting: Counting = PLAIN, in_full: bool = True) -> PodCount:
    count = begun(samples[0], counting, in_full=in_full)
    for one in samples[1:]:
        count = advanced(count, one, counting)
    return count


@pytest.mark.parametrize(
    ("samples", "total"),
    [
        pytest.param([sample(0, 5)], 5, id="one sample"),
        pytest.param([sample(0, 5), sample(5, 9)], 9, id="it rises"),
        pytest.param([sample(0, 5), sample(5, 5)], 5, id="nothing happens"),
        pytest.param([sample(0, 5), sample(5, 3)], 8, id="it begins again"),
        pytest.param([sample(0, 5), sample(5, 0), sample(10, 2), sample(15, 0)], 7, id="and again"),
        pytest.param([sample(0, 5), sample(200, 9)], 9, id="scrapes are missed"),
        pytest.param([sample(0, 5), sample(5), sample(10, 9)], 9, id="the series is missing once"),
        pytest.param([sample(0, 5), sample(5, 9), sample(2, 7)], 9, id="out of order"),
        pytest.param([sample(0, 5), sample(5, 9), sample(5, 11)], 9, id="twice the same time"),
        pytest.param([sample(0, 5), sample(5, 5, more={("completed", "abort"): 2.0})], 7, id="a series comes later"),
        pytest.param([sample(0, 5, started=1.0), sample(5, 9, started=20.0)], 14, id="another process that is further"),
        pytest.param([sample(0, 5, started=1.0), sample(5, 3, started=1.0)], 5, id="the same process: a wrong sample"),
        pytest.param([sample(0, 5, started=1.0), sample(5, 9, started=1.4)], 9, id="clocks are not exact"),
    ],
)
def test_ended_requests(samples: list[PodSample], total: float) -> None:
    assert after(*samples).totals["completed"] == total


def labelled(at: float, label: str, stopped: float, aborted: float, *row: float, **fields: Any) -> PodSample:
    counters = {("completed", f"{label}stop"): stopped, ("completed", f"{label}abort"): aborted}
    return PodSample(AT + at, 0, 0, counters=counters, rows={("ttft_counts", label): row}, **fields)


@pytest.mark.parametrize(
    ("samples", "total", "histogram"),
    [
        pytest.param(
            [labelled(0, "", 900, 50, 600, 950), labelled(5, "leaves,", 907, 51, 606, 958)],
            958,
            (606, 958),
            id="a label of the pod, copied to its series, has changed: they go on",
        ),
        pytest.param(
            [labelled(0, "", 9, 5, 6, 14), labelled(5, "x,", 9, 5, 6, 14), labelled(10, "", 10, 5, 6, 15)],
            15,
            (6, 15),
            id="and back",
        ),
        pytest.param(
            [labelled(0, "", 900, 50, 600, 950), labelled(5, "leaves,", 3, 0, 2, 3)],
            953,
            (602, 953),
            id="what has counted less is another process, or other series",
        ),
        pytest.param(
            [labelled(0, "", 9, 5, 6, 14, started=1.0), labelled(5, "x,", 20, 5, 6, 25, started=9.0)],
            39,
            (12, 39),
            id="another process, which tells its start",
        ),
    ],
)
def test_series_under_other_labels_go_on_where_they_were(
    samples: list[PodSample], total: float, histogram: tuple[float, ...]
) -> None:
    count = after(*samples)
    assert (count.totals["completed"], count.totals["arrived"]) == (total, total)
    assert count.histograms == {"ttft_counts": histogram}


def test_when_one_counter_begins_again_all_do() -> None:
    count = after(sample(0, done=50, tokens=1000), sample(5, done=2, tokens=1500))
    assert (count.totals["completed"], count.totals["prompt_tokens"]) == (52, 2500)


def test_a_pod_that_was_there_before_counts_from_now_on() -> None:
    first, second = sample(0, 500, waiting=3, running=4), sample(5, 510, waiting=0, running=2)
    assert set(after(first, in_full=False).totals.values()) == {0}
    count = after(first, second, in_full=False)
    assert (count.totals["completed"], count.totals["arrived"]) == (10, 5)


def test_after_a_long_silence_counting_begins_anew_and_keeps_what_it_had() -> None:
    late = LONGEST_MISSED_SECONDS + 1
    count = after(sample(0, 5), sample(5, 8), sample(5 + late, 5000), sample(10 + late, 5003))
    assert count.totals["completed"] == 11


@pytest.mark.parametrize(
    ("samples", "arrived"),
    [
        pytest.param([sample(0, 0, 0, 0), sample(5, 0, 30, 10)], 40, id="they come and wait"),
        pytest.param([sample(0, 0, 30, 10), sample(5, 40, 0, 0)], 40, id="when they end they do not come again"),
        pytest.param([sample(0, 0, 0, 5), sample(5, 3, 0, 2), sample(10, 3, 0, 6)], 9, id="some end, others come"),
        pytest.param([sample(0, 9, 2, 2), sample(5, 0, 0, 3)], 16, id="a restart loses them, who comes then is new"),
        pytest.param([sample(0, 9, 0, 4), sample(5, 8 + 1, 0, 2), sample(9, 9, 0, 4)], 13, id="never down"),
        pytest.param([sample(0, 5, 1, 1), sample(5, 6, None, 2), sample(10, 8, 1, 1)], 10, id="a gauge is missing"),
        pytest.param(
            [sample(0, None, 2, 3, more={("arrived", ""): 70.0}), sample(5, None, 9, 9, more={("arrived", ""): 74.0})],
            74,
            id="an engine that counts them when they come",
        ),
    ],
)
def test_requests_count_when_they_come(samples: list[PodSample], arrived: float) -> None:
    assert after(*samples).totals["arrived"] == arrived


def test_prompts_of_those_that_wait_are_taken_as_the_mean_of_those_that_were_counted() -> None:
    count = after(sample(0, done=10, running=0, tokens=1000), sample(5, done=10, waiting=7, running=0, tokens=1000))
    assert count.totals["prompt_tokens"] == 1700
    served = advanced(count, sample(10, done=12, waiting=0, running=5, tokens=1650), PLAIN)
    assert served.totals["prompt_tokens"] == 1700, "what was taken too high is no fall"


def test_an_engine_that_counts_prompts_at_the_end_has_them_for_those_that_run_too() -> None:
    first, second = sample(0, done=10, tokens=1000), sample(5, done=10, waiting=2, running=3, tokens=1000)
    assert after(first, second, counting=Counting(prompts_at_end=True)).totals["prompt_tokens"] == 1500
    assert after(first, second).totals["prompt_tokens"] == 1000 + 2 * 1000 / 13


def test_a_histogram_counts_as_one_and_begins_again_with_its_process() -> None:
    def row(at: float, *counts: float, done: float, partial: bool = False) -> PodSample:
        rows = {} if partial else {("ttft_counts", ""): tuple(counts)}
        return sample(at, done, rows=rows, is_partial=partial)

    count = after(row(0, 1.0, 2.0, done=2), row(5, 3.0, 6.0, done=6), row(10, 1.0, 1.0, done=1))
    assert count.histograms == {"ttft_counts": (4.0, 7.0)}
    recalled = after(row(0, done=2, partial=True), row(5, 300.0, 600.0, done=6), row(10, 301.0, 602.0, done=8))
    assert recalled.histograms == {"ttft_counts": (1.0, 2.0)}, "all before was not asked for, and came long ago"


def test_counters_that_never_come_are_told_once_there_was_time_for_them() -> None:
    counting = Counting(expected=frozenset({"completed", "prompt_tokens"}), grace_seconds=100)
    idle = after(sample(0), sample(200), counting=counting)
    assert idle.lacking(counting) == (), "who has done nothing has counted nothing"
    busy = after(sample(0, running=1), sample(99, running=1), counting=counting)
    assert busy.lacking(counting) == ()
    assert advanced(busy, sample(101, running=1), counting).lacking(counting) == ("completed", "prompt_tokens")
    assert advanced(busy, sample(101, done=1, tokens=5), counting).lacking(counting) == ()


def test_series_that_come_and_go_without_end_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stowage.decide.serving.signals_pod.MAX_SERIES", 10)
    samples = [sample(at, more={("completed", f"request={at}"): 1.0}) for at in range(100)]
    count = after(*samples)
    assert count.totals["completed"] == 100
    assert len(count.values) <= 10
