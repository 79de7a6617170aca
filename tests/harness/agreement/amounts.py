"""What containers ask for: amounts that meet those of nodes exactly, or miss them by one."""

from __future__ import annotations

from harness.agreement.draws import Draws
from harness.agreement.vocabulary import GPU, HUGE_PAGES, NIC, RUNTIME_CLASSES, Document

_CPU = (*("0", "100m", "100m", "250m", "500m", "750m", "1", "1", "0.5", "1e0", "100u"), "1500m", "2", "3900m", "3901m")
_MEMORY = ("0", "64Mi", "128Mi", "512Mi", "1Gi", "1Gi", "2Gi", "1e9", "1500m", "3G", "4000000000", "4000000001")
_STORAGE = ("0", "1Gi", "9Gi", "10Gi", "10G", "10000000001")
_EXTENDED = ("0", "1", "1", "1", "2", "4", "8")
_HUGE = ("0", "2Mi", "64Mi", "66Mi", "256Mi")


def small(draws: Draws) -> Document:
    """Resources of a pod that stands somewhere: seldom much."""
    requests: dict[str, str] = {}
    if draws.chance(70):
        requests["cpu"] = draws.one(("100m", "250m", "500m", "1", "0"))
    if draws.chance(60):
        requests["memory"] = draws.one(("64Mi", "128Mi", "512Mi", "1Gi"))
    if draws.chance(20):
        requests["ephemeral-storage"] = draws.one(("1Gi", "9Gi"))
    if draws.chance(20):
        requests[draws.one((GPU, NIC))] = draws.one(("1", "2"))
    return _with_equal_limits(requests)


def resources(draws: Draws) -> Document:
    """Resources of one container: some, none, limits alone, zeros."""
    requests: dict[str, str] = {}
    if draws.chance(75):
        requests["cpu"] = draws.one(_CPU)
    if draws.chance(65):
        requests["memory"] = draws.one(_MEMORY)
    if draws.chance(20):
        requests["ephemeral-storage"] = draws.one(_STORAGE)
    if draws.chance(18):
        requests[GPU] = draws.one(_EXTENDED)
    if draws.chance(8):
        requests[NIC] = draws.one(_EXTENDED)
    if draws.chance(8) and {"cpu", "memory"} & set(requests):  # huge pages alone are refused
        requests[HUGE_PAGES] = draws.one(_HUGE)
    if draws.chance(15):
        return {"limits": requests}  # the API server makes requests of them
    return _with_equal_limits(requests)


def _with_equal_limits(requests: dict[str, str]) -> Document:
    """Extended resources and huge pages want a limit that equals the request."""
    limits = {name: amount for name, amount in requests.items() if "/" in name or name == HUGE_PAGES}
    return {"requests": requests, **({"limits": limits} if limits else {})}


def container(name: str, draws: Draws) -> Document:
    """A container with resources."""
    return {"name": name, "image": "generated", "resources": resources(draws)}


def ask_for_resources(draws: Draws, pod: Document) -> None:
    """Several containers, steps of initialisation, sidecars, overhead, and amounts of the whole pod."""
    spec = pod["spec"]
    spec["containers"][0]["resources"] = resources(draws)
    if draws.chance(25):
        spec["containers"].append(container("second", draws.within("second")))
    for number in range(draws.one((0, 0, 0, 1, 2, 3))):
        step = container(f"init-{number}", draws.within(f"init-{number}"))
        if draws.chance(50):
            step |= {"restartPolicy": "Always", "resources": {"requests": {"cpu": draws.one(("500m", "1", "1500m"))}}}
        spec.setdefault("initContainers", []).append(step)
    if draws.chance(20):
        spec["runtimeClassName"] = draws.one(tuple(RUNTIME_CLASSES))
    if draws.chance(20):
        _ask_as_a_whole(draws, spec)


def _ask_as_a_whole(draws: Draws, spec: Document) -> None:
    """Amounts of the pod (KEP-2837), which must be no less than those of its containers: these ask for little."""
    for part in (*spec["containers"], *spec.get("initContainers", ())):
        part["resources"] = draws.one(({}, {"requests": {"cpu": "100m"}}, {"requests": {"memory": "64Mi"}}))
    amounts = {"cpu": draws.one(("1", "2", "3900m", "4")), "memory": draws.one(("1Gi", "2Gi", "4000000000"))}
    kept = {name: amounts[name] for name in draws.some(tuple(amounts))}
    spec["resources"] = {draws.one(("requests", "requests", "limits")): kept}
