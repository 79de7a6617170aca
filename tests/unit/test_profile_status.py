"""Profiles tell whether they can be used and by how many services; those hear of a spec that is another one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from stowage.api.performance_profile import PerformanceProfile
from stowage.decide.serving.profile_status import profile_status
from stowage.observe.store import Store
from stowage.run.lease import Lease
from stowage.run.metrics import Metrics
from stowage.run.reconcile_serving import ServingReconciler
from stowage.run.settings import OperatorSettings
from stowage.transport import Api
from unit.serving_services import NOW
from unit.test_reconcile_serving import SERVICE, Server, Silence

PROFILE = "/apis/stowage.dev/v1alpha1/performanceprofiles/h100"
SPEC: dict[str, Any] = {
    "model": "llama",
    "accelerator": "h100",
    "kvCacheTokens": 400_000,
    "fitted": {"prefill": {"base": "10", "perToken": "0.03"}, "decode": {"base": "10", "perRequest": "0.1"}},
}


def profile(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "stowage.dev/v1alpha1",
        "kind": "PerformanceProfile",
        "metadata": {"name": "h100", "uid": "uid-h100", "generation": 1, "resourceVersion": "1"},
        "spec": {**SPEC, **spec},
    }


def test_one_that_makes_curves_is_accepted() -> None:
    found = profile_status(PerformanceProfile.parse_stored(profile()), 3, NOW)
    (condition,) = found.conditions
    assert (condition.type, condition.status.value, condition.reason) == ("Accepted", "True", "Accepted")
    assert (found.observed_generation, found.services) == (1, 3)


def test_numbers_that_can_not_be_used_together_are_told() -> None:
    slow = {"prefill": {"base": "10", "perToken": "0.03"}, "decode": {"base": "30000", "perRequest": "0.1"}}
    (condition,) = profile_status(PerformanceProfile.parse_stored(profile(fitted=slow)), 0, NOW).conditions
    assert (condition.status.value, condition.reason) == ("False", "InvalidSpec")
    assert condition.message == "a step for one token takes more than 20 s: mind the unit"


class Theatre:
    def __init__(self, **settings: Any) -> None:
        self.server = Server()
        self.server.objects[PROFILE] = profile()
        variants = self.server.objects[SERVICE]["spec"]["roles"][0]["variants"]
        variants[0]["profile"] = "h100"
        self.now = NOW
        self.rung: list[str] = []
        self.named: list[str] = []
        self.reconciler = ServingReconciler(
            api=cast("Api", self.server),
            store=Store(now=lambda: self.now),
            lease=cast("Lease", SimpleNamespace(leading=True, epoch=1)),
            metrics=Metrics(),
            clock=lambda: self.now,
            settings=OperatorSettings(**settings),
            ring=lambda key, _: self.rung.append(key),
            signals=Silence(),
            on_profile=self.named.append,
        )

    async def look(self) -> list[tuple[str, str]]:
        """A pass over the profile; the profiles whose status it wrote."""
        self.server.writes.clear()
        await self.reconciler.reconcile_profile("h100")
        return self.server.told()

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.server.objects[PROFILE]["status"])


async def test_it_tells_how_many_services_name_it_and_rests() -> None:
    theatre = Theatre()
    assert await theatre.look() == [("status", "h100")]
    assert theatre.status["services"] == 0
    await theatre.reconciler.reconcile("team/chat")
    assert theatre.named == ["h100"]
    assert await theatre.look() == [("status", "h100")]
    assert theatre.status["services"] == 1
    theatre.rung.clear()
    assert (await theatre.look(), theatre.rung) == ([], []), "its own status is no news to services"


async def test_services_are_rung_when_the_spec_is_another_one_and_when_it_is_gone() -> None:
    theatre = Theatre()
    await theatre.reconciler.reconcile("team/chat")
    await theatre.look()
    theatre.rung.clear()
    theatre.server.objects[PROFILE]["metadata"]["generation"] = 2
    await theatre.look()
    assert theatre.rung == ["team/chat"]
    del theatre.server.objects[PROFILE]
    await theatre.look()
    assert theatre.rung == ["team/chat", "team/chat"]
    theatre.now += 5.0
    await theatre.reconciler.reconcile("team/chat")
    (accepted,) = [one for one in theatre.server.objects[SERVICE]["status"]["conditions"] if one["type"] == "Accepted"]
    assert (accepted["status"], accepted["reason"]) == ("False", "ProfileMissing")
    assert "h100" in accepted["message"]


async def test_one_that_cannot_be_read_says_why() -> None:
    theatre = Theatre()
    theatre.server.objects[PROFILE]["spec"]["maxRunning"] = 5000
    await theatre.look()
    (condition,) = theatre.status["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "InvalidSpec")
    assert "maxBatchedTokens" in condition["message"]


async def test_an_operator_of_some_namespaces_writes_no_status_of_what_all_share() -> None:
    theatre = Theatre(watch_namespaces=("team",))
    assert await theatre.look() == []
