"""When a job's coordinator is replaced, and when gates open that nobody plans for: with everything around it told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs

from stowage.decide.training.evidence_of_coordinators import LOST_SECONDS
from stowage.run import coordinator_pods, open_gates
from stowage.run.coordinator_pods import MENDED_SECONDS, REPLACED_SECONDS, CoordinatorPods
from stowage.run.coordinators import Address, Target
from stowage.run.open_gates import PATIENCE_SECONDS, OpenGates
from stowage_scheduler.cluster import OwnerRef, Pod
from unit.builders import NOW, node, pod
from unit.test_training_job_status import UID, Life

COORDINATOR = pod(
    "tiny-coordinator", "n1", owner=OwnerRef("TrainingJob", "tiny", UID), labels={"stowage.dev/job": "tiny"}
)


class Kept:
    """A job that runs, and what is asked for about its coordinator."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.job = Life().run().job
        self.now = NOW
        self.found: dict[str, Any] = {}  # the coordinator's pod, as the API server has it
        self.address: Address | None = None
        self.links = SimpleNamespace(
            connected=lambda _: self.connected,
            since=lambda _: self.since,
            follow=self.follow,
            command=lambda *_: None,
            drop=lambda _: None,
        )
        self.connected, self.since = True, NOW
        self.store = SimpleNamespace(pods={"team/tiny-coordinator": COORDINATOR}, nodes={"n1": node("n1")})
        self.asked: list[str] = []
        self.secrets: list[str | None] = []  # the tokens with which the Secret was asked for

        async def delete_pod(_: object, one: Pod, *, force: bool = False) -> None:
            self.asked.append(f"delete {one.name}{' by force' if force else ''}")

        async def apply_child(_: object, __: object, ___: str, document: dict[str, Any]) -> None:
            self.asked.append(f"make {document['kind']}")

        async def ensure_token(_: object, __: object, known: str | None = None) -> str:
            self.secrets.append(known)
            return "token"

        for one in (delete_pod, apply_child, ensure_token):
            monkeypatch.setattr(coordinator_pods, one.__name__, one)

        async def get(_: str) -> dict[str, Any]:
            return self.found

        self.pods = CoordinatorPods(
            api=cast("Any", SimpleNamespace(get=get)),
            store=cast("Any", self.store),
            lease=cast("Any", SimpleNamespace(leading=True, epoch=1)),
            clock=lambda: self.now,
            settings=cast("Any", SimpleNamespace(worker_image="stowage", coordinator_address="")),
            links=cast("Any", self.links),
        )

    def standing(self, **fields: Any) -> None:
        self.store.pods["team/tiny-coordinator"] = structs.replace(COORDINATOR, **fields)

    def follow(self, _: Target, address: Address) -> None:
        self.address = address

    async def keep(self, *, makes_pods: bool = False) -> float | None:
        self.asked.clear()
        self.secrets.clear()
        return await self.pods.keep(self.job, None, makes_pods=makes_pods)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    return Kept(monkeypatch)


async def test_one_that_is_heard_stays_though_its_kubelet_is_gone(kept: Kept) -> None:
    kept.store.nodes["n1"] = node("n1", ready=False)
    assert (await kept.keep(), kept.asked) == (None, [])


async def test_on_a_dead_node_and_unheard_it_goes_by_force(kept: Kept) -> None:
    kept.connected = False
    kept.store.nodes["n1"] = node("n1", ready=False)
    await kept.keep()
    assert kept.asked == ["delete tiny-coordinator by force"]


async def test_one_that_has_ended_or_is_gone_is_made_anew(kept: Kept) -> None:
    kept.standing(phase="Failed")
    await kept.keep()
    assert kept.asked == ["delete tiny-coordinator by force"]
    kept.store.pods.clear()
    await kept.keep()
    assert kept.asked == ["make Service", "make Pod"]


async def test_pods_find_secret_and_service_though_somebody_deleted_them(kept: Kept) -> None:
    await kept.keep()
    assert (kept.asked, kept.secrets) == ([], [None])
    await kept.keep(makes_pods=True)
    assert (kept.asked, kept.secrets) == (["make Service"], ["token"]), "pods that run have that token"
    kept.now += MENDED_SECONDS - 1
    await kept.keep(makes_pods=True)
    assert (kept.asked, kept.secrets) == ([], []), "pods are made in turns"
    kept.now += 1
    await kept.keep(makes_pods=True)
    assert (kept.asked, kept.secrets) == (["make Service"], ["token"])


async def test_one_that_runs_unheard_is_replaced_after_a_minute_and_not_again_soon(kept: Kept) -> None:
    kept.connected = False
    kept.now = NOW + LOST_SECONDS - 10
    assert (await kept.keep(), kept.asked) == (10.0, [])
    kept.now = NOW + LOST_SECONDS
    await kept.keep()
    assert kept.asked == ["delete tiny-coordinator by force"]
    kept.now += REPLACED_SECONDS - 1
    assert (await kept.keep(), kept.asked) == (None, []), "the network may be at fault"
    kept.now += 1
    await kept.keep()
    assert kept.asked == ["delete tiny-coordinator by force"]


async def test_one_whose_image_is_still_pulled_is_waited_for(kept: Kept) -> None:
    kept.connected = False
    kept.standing(phase="Pending", ready=False)
    kept.now = NOW + 10 * LOST_SECONDS
    await kept.keep()
    assert kept.asked == []


@pytest.mark.parametrize(
    ("owner", "status", "found"),
    [
        pytest.param(UID, {"phase": "Running", "podIP": "10.0.0.7"}, ("10.0.0.7", 7070), id="it runs"),
        pytest.param(UID, {"phase": "Pending"}, "no address", id="it waits for a node"),
        pytest.param(
            UID, {"phase": "Succeeded", "podIP": "10.0.0.7"}, "no address", id="its IP may be another's by now"
        ),
        pytest.param(UID, {}, "no address", id="no kubelet knows it"),
        pytest.param("uid-2", {"phase": "Running", "podIP": "10.0.0.7"}, "another's", id="a pod of that name"),
    ],
)
async def test_only_the_own_pod_is_told_the_token(kept: Kept, owner: str, status: dict[str, Any], found: Any) -> None:
    kept.found = {"metadata": {"ownerReferences": [{"uid": owner}]}, "status": status}
    await kept.keep()
    assert kept.address is not None
    if isinstance(found, tuple):
        assert await kept.address() == found
        return
    with pytest.raises(OSError, match=found):
        await kept.address()


class TestGates:
    @pytest.fixture
    def opened(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        names: list[str] = []

        async def open_gate(_: object, ref: Any) -> None:
            names.append(ref.name)

        monkeypatch.setattr(open_gates, "open_gate", open_gate)
        return names

    async def test_gates_open_when_no_policy_has_come_back_for_a_while(self, opened: list[str]) -> None:
        now = [NOW]
        gates = OpenGates(api=cast("Any", None), clock=lambda: now[0])
        waits = (pod("a", gates=("stowage.dev/gang",)), pod("b", "n1"), pod("c", gates=("example.com/quota",)))
        assert await gates.carry_out("team/tiny", waits, planned=True) is None
        assert await gates.carry_out("team/tiny", waits, planned=False) == PATIENCE_SECONDS
        now[0] += PATIENCE_SECONDS - 1
        assert await gates.carry_out("team/tiny", waits, planned=True) is None, "it was made again"
        now[0] += 1
        assert await gates.carry_out("team/tiny", waits, planned=False) == PATIENCE_SECONDS
        assert opened == []
        now[0] += PATIENCE_SECONDS
        assert await gates.carry_out("team/tiny", waits, planned=False) is None
        assert opened == ["a"]
