"""What a pod may ask of other pods: affinity, anti-affinity, spread."""

from __future__ import annotations

from harness.agreement.draws import Draws
from harness.agreement.vocabulary import APPS, NAMESPACES, TOPOLOGY_KEYS, VERSIONS, Document

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_NAMESPACE_SELECTORS: tuple[Document, ...] = (
    {},
    {"matchLabels": {"env": "prod"}},
    {"matchLabels": {"env": "test"}},
    {"matchExpressions": [{"key": "env", "operator": "DoesNotExist"}]},
    {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["gold"]}]},
    {"matchLabels": {"kubernetes.io/metadata.name": "team-b"}},
)


def selector(draws: Draws) -> Document | None:
    """A label selector: of one app mostly, sometimes of everything, of nothing, of what nobody has."""
    match draws.one(("app", "app", "app", "app", "version", "both", "expression", "expression", "all", "none")):
        case "app":
            return {"matchLabels": {"app": draws.one(APPS)}}
        case "version":
            return {"matchLabels": {"version": draws.one(VERSIONS)}}
        case "both":
            return {"matchLabels": {"app": draws.one(APPS), "version": draws.one(VERSIONS)}}
        case "expression":
            return {"matchExpressions": [_expression(draws.within(number)) for number in range(draws.one((1, 1, 2)))]}
        case "all":
            return {}
    return None


def _expression(draws: Draws) -> Document:
    key, values = draws.one((("app", APPS), ("app", APPS), ("version", VERSIONS), ("canary", ("yes",))))
    operator = draws.one(("In", "In", "NotIn", "Exists", "DoesNotExist"))
    if operator in {"Exists", "DoesNotExist"}:
        return {"key": key, "operator": operator}
    return {"key": key, "operator": operator, "values": draws.some(tuple(dict.fromkeys(values)), most=2)}


def pod_term(draws: Draws) -> Document:
    """A required term: which pods, of which namespaces, how near."""
    selected = selector(draws)
    term: Document = {"topologyKey": draws.one(TOPOLOGY_KEYS)}
    if selected is not None:
        term["labelSelector"] = selected
    if draws.chance(25):
        term["namespaces"] = draws.some(tuple(NAMESPACES), most=2)
    if draws.chance(25):
        term["namespaceSelector"] = draws.one(_NAMESPACE_SELECTORS)
    if selected is not None and draws.chance(25):
        free = [key for key in ("app", "version", "pod-template-hash") if not _speaks_of(selected, key)]
        if free:
            term[draws.one(("matchLabelKeys", "mismatchLabelKeys"))] = draws.some(free, most=1)
    return term


def _speaks_of(selected: Document, key: str) -> bool:
    """Whether a selector has a key already; the API server refuses it as a label key then."""
    named = [entry["key"] for entry in selected.get("matchExpressions", ())]
    return key in {*selected.get("matchLabels", {}), *named}


def stay_near(draws: Draws, pod: Document) -> None:
    """Required pod affinity; often with pods like itself, for the first of a series is a case of its own."""
    terms = [pod_term(draws.within(number)) for number in range(draws.one((1, 1, 1, 2, 3)))]
    if draws.chance(25):
        app = draws.one(("series", pod["metadata"]["labels"].get("app", "web")))
        pod["metadata"]["labels"]["app"] = app
        for term in terms:
            term["labelSelector"] = {"matchLabels": {"app": app}}
            for keys in ("matchLabelKeys", "mismatchLabelKeys"):
                if "app" in term.get(keys, ()):
                    del term[keys]
    pod["spec"].setdefault("affinity", {})["podAffinity"] = {_REQUIRED: terms}


def stay_away(draws: Draws, pod: Document) -> None:
    """Required pod anti-affinity."""
    terms = [pod_term(draws.within(number)) for number in range(draws.one((1, 1, 1, 2, 3)))]
    pod["spec"].setdefault("affinity", {})["podAntiAffinity"] = {_REQUIRED: terms}


def spread(draws: Draws, pod: Document) -> None:
    """Topology spread constraints, DoNotSchedule but for a few, each with a key of its own."""
    keys = draws.some(tuple(dict.fromkeys(TOPOLOGY_KEYS[:-1])), most=draws.one((1, 1, 1, 2, 3)))
    if draws.chance(3):
        keys.append(TOPOLOGY_KEYS[-1])
    pod["spec"]["topologySpreadConstraints"] = [
        _constraint(draws.within(key), key, pod["metadata"]["labels"]) for key in keys
    ]


def _constraint(draws: Draws, key: str, labels: dict[str, str]) -> Document:
    selected = {"matchLabels": {"app": labels.get("app", "web")}} if draws.chance(55) else selector(draws)
    wide = draws.chance(20)  # so that no domain is without pods: only then does it matter how many domains there are
    if wide:
        selected = {"matchExpressions": [{"key": "pod-template-hash", "operator": "Exists"}]}
    constraint: Document = {
        "topologyKey": key,
        "maxSkew": draws.one((1, 1, 1, 2, 3)),
        "whenUnsatisfiable": "DoNotSchedule" if draws.chance(92) else "ScheduleAnyway",
    }
    if selected is not None:
        constraint["labelSelector"] = selected
        free = [key for key in ("version", "pod-template-hash", "absent") if not _speaks_of(selected, key)]
        if free and draws.chance(25):
            constraint["matchLabelKeys"] = draws.some(free, most=1)
    if constraint["whenUnsatisfiable"] == "DoNotSchedule" and draws.chance(70 if wide else 35):
        constraint["minDomains"] = draws.between(1, 6)
    for policy in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        if draws.chance(40):
            constraint[policy] = draws.one(("Honor", "Ignore"))
    return constraint
