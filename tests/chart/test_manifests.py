"""The chart as a whole: what Kubernetes would say of each object, for values that change its shape."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.chart import CHART, KUBERNETES, MATRIX, NAMESPACE, ROOT, Object, manifest, objects, run

FOREIGN = {"ServiceMonitor", "PrometheusRule", "Certificate", "Issuer"}  # of operators that may be there
SUPPORTED = ("1.34", "1.35", "1.36")
CLUSTER_SCOPED = {
    *("ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "PackingPolicy", "PriorityClass"),
    *("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration"),
}


def strict(schema: Any) -> Any:
    """The schema of a custom resource in which fields that are not known are errors, as `kubectl apply` has it."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if "properties" in schema and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
    return closed


@pytest.fixture(scope="session")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where kubeconform finds schemas: those of Kubernetes, from a package, and ours, from the definitions."""
    found = importlib.util.find_spec("kubernetes_validate")
    assert found is not None
    assert found.origin is not None
    bundled = Path(found.origin).parent / "kubernetes-json-schema"
    folder = tmp_path_factory.mktemp("schemas")
    kinds = {one["kind"].lower() for values in MATRIX.values() for one in objects(values)}
    for version in SUPPORTED:
        (folder / version).mkdir()
        for file in (bundled / f"v{version}.0-local-strict").glob("*.json"):
            if file.stem == "_definitions" or file.stem.partition("-")[0] in kinds:
                # the package names its files by the places where it pretends to have them from
                schema = json.loads(file.read_text().replace('"/api/_definitions.json', '"_definitions.json'))
                del schema["$id"]
                (folder / version / file.name).write_text(json.dumps(schema))
        for file in sorted((CHART / "files" / "crds").glob("*.yaml")):
            definition = yaml.safe_load(file.read_text())
            for one in definition["spec"]["versions"]:
                schema = strict(one["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                kind = definition["spec"]["names"]["kind"].lower()
                (folder / version / f"{kind}-stowage-{one['name']}.json").write_text(json.dumps(schema))
    return folder


def conform(schemas: Path, text: str, kubernetes: str = KUBERNETES) -> Object:
    minor = kubernetes.rpartition(".")[0]
    place = f"{schemas}/{minor}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    options = ["-strict", "-summary", "-output=json", f"-schema-location={place}", f"-skip={','.join(FOREIGN)}"]
    result = run("kubeconform", *options, "-", given=text)
    answer: Object = json.loads(result.stdout)
    return answer


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
def test_every_object_is_as_kubernetes_wants_it(schemas: Path, values: dict[str, Any]) -> None:
    answer = conform(schemas, manifest(values))
    assert answer.get("resources") in (None, []), answer
    skipped = sum(one["kind"] in FOREIGN for one in objects(values))
    assert answer["summary"] == {"valid": len(objects(values)) - skipped, "invalid": 0, "errors": 0, "skipped": skipped}


@pytest.mark.parametrize("kubernetes", ["1.34.0", "1.35.2", "1.36.3"])
def test_every_object_suits_each_supported_version(schemas: Path, kubernetes: str) -> None:
    text = manifest(MATRIX["a second scheduler"], kubernetes=kubernetes, apis=())
    answer = conform(schemas, text, kubernetes)
    assert answer["summary"]["invalid"] == answer["summary"]["errors"] == 0, answer


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param("revisionHistoryLimit: 3", "revisionHistoryLimits: 3", id="a field that a Deployment lacks"),
        pytest.param("  mode: Recommend", "  mode: Recommended", id="a mode that a policy lacks"),
        pytest.param("maxMovesPerPlan: 20", "maxMoves: 20", id="a field that a policy lacks"),
        pytest.param("  sideEffects: None", "", id="a webhook that does not say what it does"),
    ],
)
def test_the_validation_sees_mistakes(schemas: Path, right: str, wrong: str) -> None:
    text = manifest()
    assert right in text
    assert conform(schemas, text.replace(right, wrong))["summary"]["invalid"] == 1


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
def test_no_two_objects_share_a_name(values: dict[str, Any]) -> None:
    keys = [(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]) for one in objects(values)]
    assert [key for key, count in Counter(keys).items() if count > 1] == []


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
def test_every_object_says_whose_it_is(values: dict[str, Any]) -> None:
    for one in objects(values):
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "stowage", one["metadata"]["name"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["helm.sh/chart"].startswith("stowage-")
        if one["kind"] in CLUSTER_SCOPED:
            assert "namespace" not in one["metadata"]
        else:
            assert one["metadata"]["namespace"] in {NAMESPACE, "kube-system", *values.get("watchNamespaces", ())}


def test_another_name_is_everywhere() -> None:
    found = objects({**MATRIX["a second scheduler"], "fullnameOverride": "packer"}, release="other")
    wrong = {file.stem.partition("_")[2] + ".stowage.dev" for file in (ROOT / "crds").glob("*.yaml")} | {"default"}
    names = {one["metadata"]["name"] for one in found} - wrong
    assert {name.partition("-")[0] for name in names} == {"packer"}


def test_helm_finds_nothing_to_complain_of() -> None:
    result = run("helm", "lint", "--strict", "--kube-version", KUBERNETES, CHART)
    assert "0 chart(s) failed" in result.stdout, result.stdout + result.stderr
    assert "WARNING" not in result.stdout


def test_an_older_kubernetes_is_refused() -> None:
    result = run("helm", "template", "stowage", CHART, "--kube-version", "1.33.9")
    assert result.returncode
    assert "kubeVersion: >=1.34.0" in result.stderr


def test_the_chart_holds_nothing_but_itself(tmp_path: Path) -> None:
    packed = run("helm", "package", CHART, "--destination", tmp_path)
    assert not packed.returncode, packed.stderr
    [archive] = tmp_path.glob("*.tgz")
    # a release is a Secret of at most 1 MiB, and the chart is in it
    assert archive.stat().st_size < 200_000


@pytest.mark.parametrize("file", sorted((ROOT / "crds").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_definitions_are_those_of_the_models(file: Path) -> None:
    assert (CHART / "files" / "crds" / file.name).read_text() == file.read_text()
    wanted = yaml.safe_load(file.read_text())
    [found] = [one for one in objects() if one["metadata"]["name"] == wanted["metadata"]["name"]]
    assert found["spec"] == wanted["spec"]
    assert found["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "annotations" not in next(
        one["metadata"]
        for one in objects({"crds": {"keep": False}})
        if one["metadata"]["name"] == wanted["metadata"]["name"]
    )
