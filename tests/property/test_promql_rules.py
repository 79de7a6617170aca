"""PromQL rules over any answers: no tenant speaks for another, memory is bounded, and nothing fires too soon."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stowage.decide.samples import Sample
from stowage.decide.training.promql_rules import PromqlRule, firing_of, held, held_in_the_past

STEP_SECONDS = 15.0
NAMES = st.sampled_from(["a", "b", "a b", 'a"} or up{x="', "", "ä", "a\n"])
LABELS = st.dictionaries(st.sampled_from(["namespace", "stowage_dev_job", "pod", "job"]), NAMES)
VALUES = st.floats(allow_nan=True, allow_infinity=True)
RULES = st.builds(
    PromqlRule,
    name=st.just("r"),
    query=st.just("q"),
    for_seconds=st.sampled_from([0.0, 15.0, 40.0, 60.0]),
    name_label=st.sampled_from(["stowage_dev_job", "pod"]),
)
SUBJECTS = st.sets(st.tuples(NAMES, NAMES))
ANSWERS = st.lists(st.lists(st.tuples(LABELS, VALUES), max_size=6), max_size=8)


@given(RULES, SUBJECTS, ANSWERS)
def test_only_a_series_with_both_names_speaks_for_a_job(
    rule: PromqlRule, wanted: set[tuple[str, str]], answers: list[list[tuple[dict[str, str], float]]]
) -> None:
    holds: dict[tuple[str, str], object] = {}
    for number, answer in enumerate(answers):
        now = number * STEP_SECONDS
        samples = [Sample(labels, value, now) for labels, value in answer]
        holds = held(rule, samples, holds, wanted, now)  # type: ignore[arg-type, assignment]
        speaking = {
            (labels.get("namespace"), labels.get(rule.name_label)) for labels, value in answer if value == value
        }
        assert set(holds) == {subject for subject in wanted if subject in speaking and all(subject)}


@given(RULES, st.lists(st.booleans(), min_size=1, max_size=30))
def test_a_rule_fires_exactly_after_an_unbroken_run(rule: PromqlRule, present: list[bool]) -> None:
    """And what a new process learns from the past is what one that was there all the time remembers."""
    subject = ("a", "b")
    labels = {"namespace": "a", rule.name_label: "b"}
    holds: dict[tuple[str, str], object] = {}
    history: list[Sample] = []
    for number, there in enumerate(present):
        now = number * STEP_SECONDS
        samples = [Sample(labels, 1.0, now)] if there else []
        history += samples
        holds = held(rule, samples, holds, {subject}, now)  # type: ignore[arg-type, assignment]
        run = 0
        for one in reversed(present[: number + 1]):
            if not one:
                break
            run += 1
        fires = bool(firing_of(rule, holds, [subject], now))  # type: ignore[arg-type]
        assert fires == (run > 0 and (run - 1) * STEP_SECONDS >= rule.for_seconds)
        if there:
            assert held_in_the_past(rule, history, {subject}, now, STEP_SECONDS) == holds
