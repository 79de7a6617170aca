"""What the webhook says to ModelServices."""

from __future__ import annotations

from typing import Any

import pytest

from stowage.admission.judge import judge
from stowage.admission.known import Known
from stowage.admission.verdict import Verdict
from unit.admission_requests import changed, request

Document = dict[str, Any]
GPUS = {"limits": {"nvidia.com/gpu": 2}}
ENGINE = {"name": "engine", "image": "a", "readinessProbe": {"httpGet": {"path": "/health"}}, "resources": GPUS}
FETCH = {"name": "fetch", "image": "a", "volumeMounts": [{"name": "weights", "mountPath": "/weights"}]}


def template(*, pod: Document | None = None, **engine: Any) -> Document:
    return {"spec": {"containers": [{**ENGINE, **engine}], **(pod or {})}}


def variant(name: str = "h100", **fields: Any) -> Document:
    return {"name": name, "template": template(), **fields}


def role(name: str = "unified", *variants: Document, **fields: Any) -> Document:
    return {"name": name, "bounds": {"min": 1, "max": 4}, "variants": list(variants or (variant(),)), **fields}


def service(*roles: Document, **spec: Any) -> Document:
    """A service that nothing is said about but that it is not acted on, but for what is given."""
    metadata = {"name": "llama", "namespace": "team-a", "uid": "service-uid"}
    whole = {"roles": list(roles or (role(),)), "slo": {"timeToFirstToken": "2s"}, **spec}
    return {"apiVersion": "stowage.dev/v1alpha1", "kind": "ModelService", "metadata": metadata, "spec": whole}


def schedules(*given: Document, **bounds: Any) -> Document:
    usual = {"start": "08:00", "end": "18:00", "min": 2}
    named = [{"name": f"s{number}", **usual, **one} for number, one in enumerate(given)]
    return service(role(**bounds), scaling={"schedules": named})


def pair(ratio: Document, prefill: tuple[int, int], decode: tuple[int, int]) -> Document:
    bounds = [{"min": least, "max": most} for least, most in (prefill, decode)]
    return service(role("prefill", bounds=bounds[0]), role("decode", bounds=bounds[1]), ratio=ratio)


def verdict(document: Document, before: Document | None = None) -> Verdict:
    return judge(request(document, before), Known())


def test_a_sensible_service_is_let_through_and_told_that_nothing_is_done_with_it() -> None:
    found = verdict(service())
    assert (found.allowed, found.warnings) == (True, ())


@pytest.mark.parametrize(
    ("document", "field", "value", "rule"),
    [
        pytest.param(
            service(role("unified", variant(gpus=1))),
            "spec.roles[0].variants[0].gpus",
            "1",
            "the containers of one replica ask for 2 GPUs; leave it out, or change the template",
            id="another number of GPUs than the template's",
        ),
        pytest.param(
            service(role("unified", variant(template={"spec": {"containers": [ENGINE], "initContainers": [FETCH]}}))),
            "spec.roles[0].variants[0].template.spec.initContainers[0].volumeMounts[0].name",
            "weights",
            "is not one of spec.roles[0].variants[0].template.spec.volumes",
            id="an init container that fills a volume that is not there",
        ),
        pytest.param(
            service(role("unified", variant(gpus=2, group={"size": 3}))),
            "spec.roles[0].variants[0].gpus",
            "2",
            "the 3 pods of one replica ask for 6 GPUs; leave it out, or change the template",
            id="the GPUs of one pod of a group",
        ),
        pytest.param(
            service(role("unified", variant(max=1), variant("l40s", max=1), bounds={"min": 3, "max": 4})),
            "spec.roles[0].bounds.min",
            "3",
            "the variants of the role may have 2 replicas together (spec.roles[0].variants[].max); lower it, or raise "
            "those",
            id="more replicas than are in stock",
        ),
        pytest.param(
            pair({"prefill": 1, "decode": 3, "tolerance": "0.1"}, (2, 4), (1, 5)),
            "spec.ratio",
            "1:3 ± 0.1",
            "no 2 to 4 replicas of prefill and 1 to 5 of decode keep it; change the bounds, or raise tolerance",
            id="a ratio that the bounds forbid",
        ),
        pytest.param(
            service(
                role("unified", variant(costPerHour="9"), variant("l40s", costPerHour="2", max=1), bounds={"min": 2}),
                scaling={"budget": {"costPerHour": "10.5"}},
            ),
            "spec.scaling.budget.costPerHour",
            "10.5",
            "bounds.min of all roles needs 11 with the cheapest variants; raise it, or lower those",
            id="a budget below the fewest replicas",
        ),
        pytest.param(
            service(role("unified", variant(gpus=2), bounds={"min": 3}), scaling={"budget": {"gpus": 5}}),
            "spec.scaling.budget.gpus",
            "5",
            "bounds.min of all roles needs 6 with the cheapest variants; raise it, or lower those",
            id="fewer GPUs than the fewest replicas have",
        ),
        pytest.param(
            service(
                role("unified", variant(powerWatts=700), bounds={"min": 3}), scaling={"budget": {"powerWatts": 2000}}
            ),
            "spec.scaling.budget.powerWatts",
            "2000",
            "bounds.min of all roles needs 2100 with the cheapest variants; raise it, or lower those",
            id="less power than the fewest replicas draw",
        ),
        pytest.param(
            schedules({"timeZone": "Europe/Atlantis"}),
            "spec.scaling.schedules[0].timeZone",
            "Europe/Atlantis",
            "is no time zone of the IANA database; write it as in Europe/Berlin",
            id="a time zone that is nowhere",
        ),
        pytest.param(
            schedules({"role": "decode"}),
            "spec.scaling.schedules[0].role",
            "decode",
            "is not one of spec.roles: unified",
            id="a schedule of a role that is not there",
        ),
        pytest.param(
            schedules({"min": 5}),
            "spec.scaling.schedules[0].min",
            "5",
            "is more than bounds.max = 4 of role unified, which holds always; raise that",
            id="a schedule beyond the bounds",
        ),
        pytest.param(
            schedules({"min": None, "max": 1}, bounds={"min": 2}),
            "spec.scaling.schedules[0].max",
            "1",
            "is less than bounds.min = 2 of role unified, which holds always; lower that",
            id="a schedule below the bounds",
        ),
        pytest.param(
            schedules({"min": 3}, {"min": None, "max": 2, "start": "17:59", "end": "20:00"}),
            "spec.scaling.schedules[1]",
            "s1",
            "holds at the same time as s0, and together they ask for at least 3 and at most 2 replicas; change the "
            "times or the numbers",
            id="two schedules that contradict each other for a minute",
        ),
        pytest.param(
            schedules(
                {"min": 3, "days": ["Monday"], "start": "00:00", "end": "02:00"},
                {"min": None, "max": 2, "days": ["Sunday"], "start": "22:00", "end": "01:00"},
            ),
            "spec.scaling.schedules[1]",
            "s1",
            "holds at the same time as s0, and together they ask for at least 3 and at most 2 replicas; change the "
            "times or the numbers",
            id="a night from Sunday to Monday",
        ),
    ],
)
def test_what_could_never_run_is_refused(document: Document, field: str, value: str, rule: str) -> None:
    (problem,) = verdict(document).problems
    assert problem.told == (field, value, rule)


def test_a_mount_of_a_volume_that_is_not_there_is_refused_in_every_template() -> None:
    mount = template(volumeMounts=[{"name": "weights", "mountPath": "/models"}])
    document = service(role("unified", variant(template=mount, group={"size": 2, "workers": mount})))
    paths = [f"spec.roles[0].variants[0].{one}.spec" for one in ("template", "group.workers")]
    assert [problem.told for problem in verdict(document).problems] == [
        (f"{path}.containers[0].volumeMounts[0].name", "weights", f"is not one of {path}.volumes") for path in paths
    ]


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(service(role("unified", variant(gpus=6, group={"size": 3}))), id="the GPUs of a group"),
        pytest.param(
            service(
                role(
                    "unified",
                    variant(
                        gpus=4, group={"size": 3, "workers": template(resources={"requests": {"nvidia.com/gpu": "1"}})}
                    ),
                )
            ),
            id="workers with fewer GPUs than the first pod",
        ),
        pytest.param(
            service(role("unified", variant(max=2), variant("b", max=1), bounds={"min": 3})), id="all the stock"
        ),
        pytest.param(service(role("unified", variant(max=2), variant("b"), bounds={"min": 4})), id="stock without end"),
        pytest.param(pair({"prefill": 2, "decode": 5, "tolerance": "0"}, (1, 2), (5, 5)), id="the only pair that fits"),
        pytest.param(
            service(
                role("unified", variant(costPerHour="3.5"), bounds={"min": 2}), scaling={"budget": {"costPerHour": "7"}}
            ),
            id="all the budget",
        ),
        pytest.param(service(scaling={"budget": {"gpus": 1}}), id="a budget of what nobody tells"),
        pytest.param(
            schedules({"min": 3}, {"min": None, "max": 2, "start": "18:00", "end": "20:00"}), id="one after the other"
        ),
        pytest.param(
            schedules({"min": 3, "days": ["Monday"]}, {"min": None, "max": 2, "days": ["Tuesday"]}), id="other days"
        ),
        pytest.param(
            schedules({"min": 3, "timeZone": "Asia/Tokyo"}, {"min": None, "max": 2}), id="clocks that are not compared"
        ),
        pytest.param(schedules({"min": 3}, {"min": 1, "max": 4}), id="bounds that fit each other"),
        pytest.param(schedules({"min": 3}, {"min": None, "max": 3}), id="bounds that leave one number"),
        pytest.param(schedules({"min": 4}), id="a schedule up to the bounds"),
        pytest.param(schedules({"min": None, "max": 2}, bounds={"min": 2}), id="a schedule down to the bounds"),
        pytest.param(
            service(
                role("prefill"),
                role("decode"),
                scaling={
                    "schedules": [
                        {"name": "a", "start": "08:00", "end": "18:00", "min": 3},
                        {"name": "b", "start": "08:00", "end": "18:00", "max": 2, "role": "decode"},
                    ]
                },
            ),
            id="schedules of two roles",
        ),
        pytest.param(
            service(role("unified", variant(gpus=2, template=template(resources=None)))),
            id="containers that do not tell",
        ),
    ],
)
def test_what_can_run_is_not_refused(document: Document) -> None:
    assert verdict(document).problems == ()


@pytest.mark.parametrize(
    ("document", "words"),
    [
        pytest.param(
            service(slo=None, scaling={"recommenders": ["Slo", "Saturation"]}),
            "spec.scaling.recommenders: Slo has nothing to say without spec.slo",
            id="a model of latencies without targets",
        ),
        pytest.param(
            service(scaling={"concurrency": {"target": 8}}),
            "spec.scaling.concurrency has no effect: spec.scaling.recommenders does not name Concurrency",
            id="a target of nobody",
        ),
        pytest.param(
            service(slo={"endToEnd": "9s", "quantile": "0.9"}),
            "spec.slo.quantile = 0.9 is less than attainment = 0.99: latencies can look good while too many requests "
            "miss their targets",
            id="a quantile that hides misses",
        ),
        pytest.param(
            service(role("unified", warm={"pods": 4})),
            "spec.roles[0].warm.pods = 4: bounds leave room for 3 beside bounds.min = 1; raise bounds.max",
            id="more spares than there can be",
        ),
        pytest.param(
            service(replicas=3),
            "spec.replicas = 3: role unified does not follow its load until it is taken away",
            id="replicas by hand",
        ),
        pytest.param(
            service(role("unified", bounds={"min": 2, "max": 2})),
            "spec.roles[0].bounds: role unified always has 2 replicas",
            id="a fixed number",
        ),
        pytest.param(
            service(role("unified", variant(costPerHour="3"), variant("l40s"))),
            "spec.roles[0].variants: l40s without costPerHour: nothing tells which variant is the cheapest",
            id="a mix without prices",
        ),
        pytest.param(
            service(role("unified", variant(template=template(readinessProbe=None)))),
            "spec.roles[0].variants[0].template: container engine has no readinessProbe: replicas count as ready "
            "before the model is loaded",
            id="ready at once",
        ),
        pytest.param(
            service(role("unified", variant(template=template(ports=[{"containerPort": 80}])))),
            "spec.roles[0].variants[0].template: container engine names ports, and not 8000, where spec.engine answers",
            id="another port",
        ),
        pytest.param(
            service(role("unified", variant(template=template(resources=None)))),
            "spec.roles[0].variants[0]: neither gpus nor the containers tell how many GPUs a replica has",
            id="nobody tells of GPUs",
        ),
    ],
)
def test_what_is_most_likely_not_meant_is_told(document: Document, words: str) -> None:
    assert verdict(document).warnings == (words,)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(service(slo=None), id="recommenders by default without targets"),
        pytest.param(
            service(slo=None, scaling={"recommenders": ["Slo", "Saturation", "Forecast"]}),
            id="the same, as the API server fills them in",
        ),
        pytest.param(service(slo=None, scaling={"recommenders": ["Saturation"]}), id="nobody who needs targets"),
        pytest.param(service(slo={"endToEnd": "9s", "quantile": "0.99"}), id="the quantile of the attainment"),
        pytest.param(
            service(
                role("unified", variant(powerWatts=700), variant("l40s", powerWatts=350)), scaling={"minimize": "Power"}
            ),
            id="a mix for least power",
        ),
        pytest.param(
            service(role("unified", variant(gpus=2, template=template(resources=None)))), id="the variant tells of GPUs"
        ),
        pytest.param(service(role("unified", warm={"pods": 3})), id="as many spares as there can be"),
    ],
)
def test_nothing_more_is_told_of_what_is_meant(document: Document) -> None:
    assert verdict(document).warnings == ()


def test_nothing_running_by_hand_is_below_the_bounds_on_purpose() -> None:
    by_hand = "spec.replicas = 0: role unified does not follow its load until it is taken away"
    assert verdict(service(replicas=0)).warnings == (by_hand,)


def test_replicas_by_hand_below_the_bounds_are_told_of_too() -> None:
    found = verdict(service(role("unified", bounds={"min": 2, "max": 4}), replicas=1))
    assert found.warnings[-1] == "spec.replicas = 1 is less than bounds.min = 2 of role unified"


def test_what_a_service_said_before_is_no_reason_to_refuse_a_change() -> None:
    before = schedules({"timeZone": "Europe/Atlantis"})
    found = verdict(changed(before, replicas=2), before)
    assert found.allowed
    assert any("timeZone = Europe/Atlantis" in words and "it said so before" in words for words in found.warnings)


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param({"ports": 8000}, id="a port where a list of ports belongs"),
    ],
)
def test_fields_that_are_handed_on_may_hold_anything(engine: Document) -> None:
    found = verdict(service(role("unified", variant(template=template(**engine)))))
    assert found.allowed
