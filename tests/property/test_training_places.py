"""Whatever comes, changes and goes, the index says what a look at everything would say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stowage.api.names import JOB_LABEL, SEAT_LABEL
from stowage.run.training_places import Places
from stowage_scheduler.cluster import Pod

JOBS = st.sampled_from(["a", "b", "c"])
LABELS = st.one_of(
    st.just({}),
    st.builds(lambda job: {JOB_LABEL: job}, JOBS),
    st.builds(lambda job: {JOB_LABEL: job, SEAT_LABEL: "s0"}, JOBS),
)
CHANGES = st.lists(st.tuples(st.sampled_from(["x", "y", "z"]), st.one_of(st.none(), LABELS)), max_size=12)


@given(CHANGES)
def test_pods_of_jobs(changes: list[tuple[str, dict[str, str] | None]]) -> None:
    store: dict[str, Pod] = {}
    places = Places(store)
    for name, labels in changes:
        before = store.pop(f"team/{name}", None)
        if labels is not None:
            store[f"team/{name}"] = Pod("team", name, name, {}, labels=labels)
        told = places.pod_changed(f"team/{name}")
        owners = [pod.labels.get(JOB_LABEL) for pod in (before, store.get(f"team/{name}")) if pod is not None]
        assert told == tuple(sorted({f"team/{job}" for job in owners if job is not None}))
        for job in "abc":
            found = [pod for pod in store.values() if pod.labels.get(JOB_LABEL) == job and SEAT_LABEL in pod.labels]
            assert places.pods_of(f"team/{job}") == tuple(sorted(found, key=lambda pod: pod.name))


@given(st.lists(st.tuples(JOBS, st.frozensets(st.sampled_from(["n1", "n2", "n3"]))), max_size=10))
def test_jobs_on_nodes(changes: list[tuple[str, frozenset[str]]]) -> None:
    places, stands = Places({}), dict[str, frozenset[str]]()
    for job, nodes in changes:
        places.stands_on(job, nodes)
        stands[job] = nodes
        for node in ("n1", "n2", "n3"):
            assert places.jobs_on(node) == tuple(sorted(job for job, nodes in stands.items() if node in nodes))
