"""What a pod may ask of nodes: selectors, affinity, tolerations, host ports."""

from __future__ import annotations

from harness.agreement.draws import Draws
from harness.agreement.nodes import TAINTS, node_name
from harness.agreement.vocabulary import CORES, DISK, HOST, NOWHERE, RACK, ZONE, Document

_VALUES = {
    ZONE: ("z1", "z2", "z3", "z9"),
    RACK: ("r1", "r2", "r3", "r4"),
    DISK: ("ssd", "hdd", ""),
    CORES: ("4", "8", "08", "many", ""),
    NOWHERE: ("x",),
}
_BOUNDS = ("3", "4", "8", "08", "many", "0", "15", "16")
_ADDRESSES = ("", "", "0.0.0.0", "127.0.0.1", "10.0.0.1", "::", "::1")
_PORTS = (8080, 8080, 8080, 9090, 53)


def ask_for_nodes(draws: Draws, pod: Document) -> None:
    """A node selector, required node affinity, or both; a feature that nodes declare."""
    spec = pod["spec"]
    if draws.chance(15):
        _need_restarts_of_all(draws, spec)
        if draws.chance(50):
            return
    selects = draws.chance(40)
    if selects:
        keys = draws.some(tuple(_VALUES)[:4], most=draws.one((1, 1, 2)))
        spec["nodeSelector"] = {key: draws.one(_VALUES[key]) for key in keys}
    if not selects or draws.chance(40):
        terms = [_term(draws.within(number)) for number in range(draws.one((1, 1, 2, 3)))]
        affinity = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        spec.setdefault("affinity", {})["nodeAffinity"] = affinity


def _need_restarts_of_all(draws: Draws, spec: Document) -> None:
    """A rule of restarts that not every kubelet knows."""
    exit_codes = {"operator": "In", "values": [42]}
    action = draws.one(("RestartAllContainers", "RestartAllContainers", "Restart"))
    rules = [{"action": action, "exitCodes": exit_codes}]
    spec["containers"][0] |= {"restartPolicy": "Never", "restartPolicyRules": rules}


def _term(draws: Draws) -> Document:
    """Expressions, fields, both, or neither: an empty term matches nothing."""
    if draws.chance(4):
        return {}
    fields = draws.chance(25)
    term: Document = {}
    if fields:
        term["matchFields"] = [_field(draws.within(f"field-{number}")) for number in range(draws.one((1, 1, 1, 2)))]
    if not fields or draws.chance(40):
        term["matchExpressions"] = [expression(draws.within(number)) for number in range(draws.one((1, 1, 2)))]
    return term


def _field(draws: Draws) -> Document:
    operator = draws.one(("In", "NotIn"))
    return {"key": "metadata.name", "operator": operator, "values": [node_name(draws.between(0, 12))]}


def expression(draws: Draws) -> Document:
    """One expression over labels of nodes."""
    operator = draws.one(("In", "In", "NotIn", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"))
    if operator in {"Gt", "Lt"}:
        key = draws.one((CORES, CORES, CORES, ZONE))
        return {"key": key, "operator": operator, "values": [draws.one(_BOUNDS)]}
    key = draws.one(tuple(_VALUES))
    if operator in {"Exists", "DoesNotExist"}:
        return {"key": draws.one((key, HOST)), "operator": operator}
    return {"key": key, "operator": operator, "values": draws.some(_VALUES[key], most=3)}


def tolerate(draws: Draws, pod: Document) -> None:
    """Tolerations of single taints, of keys, of effects, of everything, and such as meet no taint."""
    pod["spec"]["tolerations"] = [_toleration(draws.within(number)) for number in range(draws.one((0, 1, 1, 2, 3)))]


def _toleration(draws: Draws) -> Document:
    if draws.chance(8):
        return {"operator": "Exists"}
    if draws.chance(8):
        return {"operator": "Exists", "effect": draws.one(("NoSchedule", "NoExecute", "PreferNoSchedule"))}
    taint = draws.one((*TAINTS, {"key": "node.kubernetes.io/unschedulable"}, {"key": "node.kubernetes.io/not-ready"}))
    toleration: Document = {"key": taint["key"]}
    match draws.one(("Equal", "Equal", "Exists", "other value", "no operator")):
        case "Exists":
            toleration["operator"] = "Exists"
        case "Equal":
            toleration |= {"operator": "Equal", "value": taint.get("value", "")}
        case "other value":
            toleration |= {"operator": "Equal", "value": draws.one(("gpu", "infra", "5", ""))}
        case _:
            toleration["value"] = taint.get("value", "")
    if draws.chance(60):
        effect = taint.get("effect", "NoSchedule") if draws.chance(75) else "NoExecute"
        toleration["effect"] = effect
        if effect == "NoExecute" and draws.chance(50):
            toleration["tolerationSeconds"] = draws.one((0, 60))
    return toleration


def host_ports(draws: Draws) -> list[Document]:
    """Ports of one container on its node."""
    ports: dict[tuple[object, ...], Document] = {}
    for number in range(draws.one((1, 1, 2))):
        drawn = draws.within(number)
        port: Document = {"containerPort": drawn.one(_PORTS)}
        port["hostPort"] = port["containerPort"] if drawn.chance(60) else drawn.one(_PORTS)
        if drawn.chance(60):
            port["protocol"] = drawn.one(("TCP", "UDP", "SCTP"))
        if address := drawn.one(_ADDRESSES):
            port["hostIP"] = address
        key = (port["hostPort"], port.get("protocol", "TCP"), address)
        ports[key] = port
    return list(ports.values())


def take_ports(draws: Draws, pod: Document) -> None:
    """Host ports of a container, of a sidecar, of a step of initialisation (those count for nothing)."""
    spec = pod["spec"]
    match draws.one(("container", "container", "container", "sidecar", "step", "host network")):
        case "sidecar":
            sidecar = {"name": "proxy", "image": "generated", "restartPolicy": "Always", "ports": host_ports(draws)}
            spec.setdefault("initContainers", []).append(sidecar)
        case "step":
            step = {"name": "step", "image": "generated", "ports": host_ports(draws)}
            spec.setdefault("initContainers", []).append(step)
        case "host network":
            spec["hostNetwork"] = True
            spec["containers"][0]["ports"] = [{"containerPort": draws.one(_PORTS)}]
        case _:
            spec["containers"][0]["ports"] = host_ports(draws)
