"""Which requests meet which fault."""

from __future__ import annotations

import pytest

from faults.script import Answer, Cut, Drop, Match, Script
from faults.traffic import Request

PODS = "/api/v1/namespaces/a/pods"


def request(method: str = "GET", path: str = PODS, **fields: object) -> Request:
    return Request(index=0, method=method, path=path, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "path", "query", "verb", "mutating"),
    [
        pytest.param("GET", "/api/v1/nodes", {}, "list", False, id="a list"),
        pytest.param("GET", "/api/v1/nodes/n1", {}, "get", False, id="a get"),
        pytest.param("GET", "/api/v1/nodes", {"watch": "true"}, "watch", False, id="a watch"),
        pytest.param("GET", PODS, {"watch": "1"}, "watch", False, id="a watch as client-go asks for it"),
        pytest.param("GET", "/api/v1/namespaces", {}, "list", False, id="namespaces are a collection"),
        pytest.param("GET", "/api/v1/namespaces/a", {}, "get", False, id="a namespace is an object"),
        pytest.param("GET", "/version", {}, "get", False, id="no resource at all"),
        pytest.param("GET", "/apis/apps/v1", {}, "get", False, id="discovery"),
        pytest.param("POST", PODS, {}, "create", True, id="a create"),
        pytest.param("POST", f"{PODS}/p/eviction", {}, "create", True, id="an eviction"),
        pytest.param("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {}, "create", False, id="a review"),
        pytest.param("PUT", "/apis/stowage.dev/v1alpha1/packingplans/p/status", {}, "update", True, id="a status"),
        pytest.param("PATCH", "/api/v1/nodes/n1", {}, "patch", True, id="a patch"),
        pytest.param("DELETE", f"{PODS}/p", {}, "delete", True, id="a delete"),
        pytest.param("DELETE", PODS, {}, "deletecollection", True, id="a delete of all"),
    ],
)
def test_requests_have_the_verbs_of_kubernetes(
    method: str, path: str, query: dict[str, str], verb: str, mutating: bool
) -> None:
    asked = request(method, path, query=query)
    assert (asked.verb, asked.mutating) == (verb, mutating)


@pytest.mark.parametrize(
    ("match", "hits"),
    [
        pytest.param(Match(), [1, 2, 3, 4, 5, 6], id="all"),
        pytest.param(Match.nth(3), [3], id="the third"),
        pytest.param(Match(first=4), [4, 5, 6], id="from the fourth on"),
        pytest.param(Match(first=2, last=3), [2, 3], id="second and third"),
        pytest.param(Match(first=3, every=3), [3, 6], id="every third"),
        pytest.param(Match(path="/nodes"), [], id="others"),
    ],
)
def test_a_rule_counts_its_own_requests(match: Match, hits: list[int]) -> None:
    script = Script()
    rule = script.add(match, Drop())
    met = []
    for number in range(1, 7):
        if script.decide(request()) is rule:
            met.append(number)
        script.decide(request(path="/api/v1/namespaces")) if match.path != "" else None
    assert met == hits
    assert rule.played == len(hits)


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        pytest.param(Match(methods=frozenset({"POST"})), True, id="method"),
        pytest.param(Match(methods=frozenset({"PUT", "GET"})), False, id="other methods"),
        pytest.param(Match(path="/eviction$"), True, id="path"),
        pytest.param(Match(path="^/eviction"), False, id="other path"),
        pytest.param(Match(user_agent="^stowage-operator"), True, id="user agent"),
        pytest.param(Match(user_agent="kube-scheduler"), False, id="other user agent"),
        pytest.param(Match(verbs=frozenset({"create"})), True, id="verb"),
        pytest.param(Match(mutating=True), True, id="a change"),
        pytest.param(Match(mutating=False), False, id="no change"),
        pytest.param(Match(where=lambda asked: asked.field_manager == "stowage-operator"), True, id="any condition"),
        pytest.param(Match(where=lambda asked: asked.document["kind"] == "Binding"), False, id="condition on the body"),
    ],
)
def test_a_match_looks_at_everything_that_is_given(match: Match, fits: bool) -> None:
    asked = request(
        "POST",
        f"{PODS}/p/eviction",
        query={"fieldManager": "stowage-operator"},
        user_agent="stowage-operator/0.1.0",
        body=b'{"kind": "Eviction"}',
    )
    assert match.fits(asked) is fits


def test_the_first_rule_whose_turn_it_is_wins_and_all_count() -> None:
    script = Script()
    second = script.add(Match.nth(2), Drop())
    rest = script.add(Match(first=2), Answer(503))
    assert [script.decide(request()) for _ in range(3)] == [None, second, rest]
    assert (second.seen, rest.seen) == (3, 3)
    script.remove(rest)
    assert script.decide(request()) is None


def test_faults_of_watches_leave_other_requests_alone_and_do_not_count_them() -> None:
    script = Script()
    rule = script.add(Match.nth(1), Cut())
    assert script.decide(request()) is None
    assert script.decide(request(query={"watch": "true"})) is rule


def test_an_answer_of_our_own_is_a_status_with_the_usual_reason() -> None:
    answer = Answer(429, causes=(("DisruptionBudget", "no"),))
    asked = Request(index=0, method="GET", path="/", body=answer.payload)
    assert asked.document["reason"] == "TooManyRequests"
    assert asked.document["details"]["causes"] == [{"reason": "DisruptionBudget", "message": "no"}]
    assert Answer(200, body=b"garbage").payload == b"garbage"
