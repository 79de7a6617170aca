from __future__ import annotations

import pytest

from stowage_scheduler.cluster import (
    DisruptionBudget,
    Effect,
    HostPort,
    LabelSelector,
    Node,
    NodeSelectorTerm,
    Pod,
    PodAffinityTerm,
    Requirement,
    Taint,
    Toleration,
)
from stowage_scheduler.kube.budgets import Budgets, budgets_of
from stowage_scheduler.kube.matching import (
    ANY_ADDRESS,
    matches_node_affinity,
    matches_pod_term,
    matches_selector,
    port_conflict,
    tolerates_node,
    untolerated_taint,
)

LABELS = {"app": "web", "tier": "front", "size": "10"}


def needs(key: str, operator: str, *values: str) -> Requirement:
    return Requirement(key, operator, values)


@pytest.mark.parametrize(
    ("selector", "selects"),
    [
        pytest.param(None, False, id="no selector selects nothing"),
        pytest.param(LabelSelector(), True, id="an empty one everything"),
        pytest.param(LabelSelector((("app", "web"),)), True, id="an equal label"),
        pytest.param(LabelSelector((("app", "web"), ("tier", "back"))), False, id="all labels must be equal"),
        pytest.param(LabelSelector((("zone", ""),)), False, id="an absent label is not an empty one"),
        pytest.param(LabelSelector(expressions=(needs("app", "In", "db", "web"),)), True, id="one of several"),
        pytest.param(LabelSelector(expressions=(needs("app", "NotIn", "db"),)), True, id="none of several"),
        pytest.param(LabelSelector(expressions=(needs("zone", "NotIn", "a"),)), True, id="NotIn matches absent keys"),
        pytest.param(LabelSelector(expressions=(needs("zone", "DoesNotExist"),)), True, id="absent as asked"),
        pytest.param(LabelSelector(expressions=(needs("app", "Exists"),)), True, id="present as asked"),
        pytest.param(LabelSelector(expressions=(needs("zone", "Exists"),)), False, id="absent though asked for"),
        pytest.param(LabelSelector(expressions=(needs("zone", "In", "a"),)), False, id="In needs the key"),
        pytest.param(LabelSelector(expressions=(needs("app", "In"),)), False, id="In without values is malformed"),
        pytest.param(LabelSelector(expressions=(needs("app", "Exists", "x"),)), False, id="Exists takes no values"),
        pytest.param(LabelSelector(expressions=(needs("size", "Gt", "5"),)), False, id="labels know no Gt"),
        pytest.param(LabelSelector(expressions=(needs("zone", "Is", "a"),)), False, id="an unknown operator"),
        pytest.param(LabelSelector(expressions=(needs("app", "NotIn", "x y"),)), False, id="a malformed value"),
        pytest.param(LabelSelector(expressions=(needs("a b", "DoesNotExist"),)), False, id="a malformed key"),
        pytest.param(LabelSelector(expressions=(needs("/b", "DoesNotExist"),)), False, id="an empty key prefix"),
    ],
)
def test_label_selectors(selector: LabelSelector | None, selects: bool) -> None:
    assert matches_selector(selector, LABELS) is selects


def term(*expressions: Requirement, fields: tuple[Requirement, ...] = ()) -> NodeSelectorTerm:
    return NodeSelectorTerm(expressions, fields)


@pytest.mark.parametrize(
    ("terms", "admits"),
    [
        pytest.param(None, True, id="no rule admits every node"),
        pytest.param((), False, id="a rule without terms admits none"),
        pytest.param((term(),), False, id="an empty term matches nothing"),
        pytest.param((term(), term(needs("gpu", "Exists"))), True, id="terms are alternatives"),
        pytest.param((term(needs("gpu", "Exists"), needs("zone", "In", "b")),), False, id="expressions add up"),
        pytest.param((term(needs("cores", "Gt", "31")),), True, id="more than"),
        pytest.param((term(needs("cores", "Gt", "32")),), False, id="more than means strictly"),
        pytest.param((term(needs("cores", "Lt", "033")),), True, id="less than, by number and not by text"),
        pytest.param((term(needs("gpu", "Lt", "5")),), False, id="a label that is no number"),
        pytest.param((term(needs("nope", "Lt", "5")),), False, id="a number that is not there"),
        pytest.param((term(needs("cores", "Gt", "1", "2")),), False, id="two bounds are malformed"),
        pytest.param((term(needs("cores", "Gt", "1_0")),), False, id="Python's idea of a number is not Go's"),
        pytest.param((term(fields=(needs("metadata.name", "In", "n1"),)),), True, id="by name"),
        pytest.param((term(fields=(needs("metadata.name", "NotIn", "n1"),)),), False, id="not by name"),
        pytest.param((term(fields=(needs("metadata.name", "In", "n1", "n2"),)),), False, id="names come singly"),
        pytest.param((term(fields=(needs("metadata.name", "Exists"),)),), False, id="fields know In and NotIn only"),
        pytest.param((term(fields=(needs("metadata.uid", "In", "n1"),)),), False, id="an unknown field is empty"),
        pytest.param((term(needs("gpu", "In")), term(needs("gpu", "Exists"))), True, id="a malformed term is skipped"),
    ],
)
def test_required_node_affinity(terms: tuple[NodeSelectorTerm, ...] | None, admits: bool) -> None:
    node = Node("n1", {}, labels={"gpu": "h100", "zone": "a", "cores": "32"})
    pod = Pod("ns", "p", "u", {}, node_affinity=terms)
    assert matches_node_affinity(pod, node) is admits


def test_node_selector_and_affinity_must_both_hold() -> None:
    node = Node("n1", {}, labels={"zone": "a"})
    affinity = (term(needs("zone", "Exists")),)
    assert matches_node_affinity(Pod("ns", "p", "u", {}, node_selector={"zone": "a"}, node_affinity=affinity), node)
    assert not matches_node_affinity(Pod("ns", "p", "u", {}, node_selector={"zone": "b"}, node_affinity=affinity), node)


GPU = Taint("gpu", Effect.NO_SCHEDULE, "yes")


@pytest.mark.parametrize(
    ("taint", "toleration", "admits"),
    [
        pytest.param(GPU, None, False, id="a taint keeps pods away"),
        pytest.param(Taint("gpu", Effect.PREFER_NO_SCHEDULE), None, True, id="a soft one does not"),
        pytest.param(GPU, Toleration("gpu", "Equal", "yes", "NoSchedule"), True, id="an equal toleration"),
        pytest.param(GPU, Toleration("gpu", "", "yes"), True, id="Equal is the default, any effect"),
        pytest.param(GPU, Toleration("gpu", "Equal", "no"), False, id="another value"),
        pytest.param(GPU, Toleration("gpu", "Exists", "", "NoExecute"), False, id="another effect"),
        pytest.param(GPU, Toleration("cpu", "Exists"), False, id="another key"),
        pytest.param(GPU, Toleration("", "Exists"), True, id="a toleration of everything"),
        pytest.param(Taint("n", Effect.NO_EXECUTE, "5"), Toleration("n", "Gt", "3"), False, id="numeric operators off"),
    ],
)
def test_taints(taint: Taint, toleration: Toleration | None, admits: bool) -> None:
    pod = Pod("ns", "p", "u", {}, tolerations=(toleration,) if toleration else ())
    assert tolerates_node(pod, Node("n1", {}, taints=(taint,))) is admits


def test_a_cordoned_node_takes_only_pods_that_tolerate_it() -> None:
    node = Node("n1", {}, unschedulable=True)
    daemon = Pod("ns", "d", "u", {}, tolerations=(Toleration("node.kubernetes.io/unschedulable", "Exists"),))
    assert tolerates_node(daemon, node)
    taint = untolerated_taint(Pod("ns", "p", "v", {}), node)
    assert taint is not None
    assert taint.key == "node.kubernetes.io/unschedulable"


@pytest.mark.parametrize(
    ("wanted", "taken", "conflict"),
    [
        pytest.param(HostPort("TCP", ANY_ADDRESS, 80), HostPort("TCP", "10.0.0.1", 80), True, id="every address"),
        pytest.param(HostPort("TCP", "10.0.0.1", 80), HostPort("TCP", ANY_ADDRESS, 80), True, id="the other way round"),
        pytest.param(HostPort("TCP", "10.0.0.1", 80), HostPort("TCP", "10.0.0.1", 80), True, id="the same address"),
        pytest.param(HostPort("TCP", "10.0.0.1", 80), HostPort("TCP", "10.0.0.2", 80), False, id="two addresses"),
        pytest.param(HostPort("TCP", ANY_ADDRESS, 80), HostPort("UDP", ANY_ADDRESS, 80), False, id="two protocols"),
        pytest.param(HostPort("TCP", ANY_ADDRESS, 80), HostPort("TCP", ANY_ADDRESS, 81), False, id="two ports"),
    ],
)
def test_host_ports(wanted: HostPort, taken: HostPort, conflict: bool) -> None:
    assert port_conflict([wanted], [taken]) == (wanted if conflict else None)


WEB = LabelSelector((("app", "web"),))


@pytest.mark.parametrize(
    ("affinity", "speaks"),
    [
        pytest.param(PodAffinityTerm("zone", WEB, ("ns",)), True, id="its namespace, by name"),
        pytest.param(PodAffinityTerm("zone", WEB, ("other",)), False, id="another namespace"),
        pytest.param(PodAffinityTerm("zone", WEB, ("other",), LabelSelector()), True, id="any namespace"),
        pytest.param(PodAffinityTerm("zone", WEB, (), LabelSelector((("team", "a"),))), True, id="namespaces by label"),
        pytest.param(PodAffinityTerm("zone", WEB, (), LabelSelector((("team", "b"),))), False, id="other labels"),
        pytest.param(PodAffinityTerm("zone", LabelSelector((("app", "db"),)), ("ns",)), False, id="another pod"),
        pytest.param(PodAffinityTerm("zone", None, ("ns",)), False, id="no selector selects no pod"),
    ],
)
def test_pod_affinity_terms(affinity: PodAffinityTerm, speaks: bool) -> None:
    pod = Pod("ns", "p", "u", {}, labels={"app": "web"})
    assert matches_pod_term(affinity, pod, {"ns": {"team": "a"}}) is speaks


def test_a_namespace_that_is_not_listed_still_has_its_name() -> None:
    by_name = LabelSelector((("kubernetes.io/metadata.name", "ns"),))
    pod = Pod("ns", "p", "u", {}, labels={"app": "web"})
    assert matches_pod_term(PodAffinityTerm("zone", WEB, (), by_name), pod, {})


def test_budgets_cover_pods_of_their_namespace_that_they_select() -> None:
    pod = Pod("ns", "p", "u", {}, labels={"app": "web"})
    web = DisruptionBudget("ns", "web", "1", WEB)
    everything = DisruptionBudget("ns", "all", "2", LabelSelector())
    nothing = DisruptionBudget("ns", "none", "3", None)
    elsewhere = DisruptionBudget("other", "web", "4", WEB)
    assert budgets_of(pod, (nothing, web, elsewhere, everything)) == (web, everything)


def test_budgets_tell_pods_apart_by_every_label_that_a_selector_speaks_of() -> None:
    front = DisruptionBudget("ns", "front", "1", LabelSelector((), (needs("tier", "In", "front"),)))
    web = DisruptionBudget("ns", "web", "2", WEB)
    index = Budgets([front, web])
    pods = [
        Pod("ns", f"p{number}", f"u{number}", {}, labels=labels)
        for number, labels in enumerate(
            [{"app": "web", "tier": "front"}, {"app": "web"}, {"tier": "front"}, {"x": "y"}]
        )
    ]
    assert [index.of(pod) for pod in pods] == [(front, web), (web,), (front,), ()]
