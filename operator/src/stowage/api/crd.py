"""The CustomResourceDefinitions, made from the models: one source for what Python reads and the API server accepts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from stowage.api.model_service import ModelService
from stowage.api.names import CATEGORY, GROUP, VERSION
from stowage.api.packing_plan import PackingPlan
from stowage.api.packing_policy import PackingPolicy
from stowage.api.performance_profile import PerformanceProfile
from stowage.api.resource import Resource
from stowage.api.structural import structural_schema
from stowage.api.training_job import TrainingJob

HEADER: Final = "# Generated from the models in stowage.api: change those, then run `python -m stowage.api`.\n"
_WIDTH: Final = 120


class _PlainDumper(yaml.SafeDumper):
    """Writes shared parts out: anchors would make a diff hard to read."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`; one with `wide` shows with `-o wide` alone."""

    name: str
    kind: str
    path: str
    wide: bool = False

    def document(self) -> dict[str, Any]:
        """The column as the API server wants it."""
        priority = {"priority": 1} if self.wide else {}
        return {"name": self.name, "type": self.kind, "jsonPath": self.path, **priority}


@dataclass(frozen=True)
class Scale:
    """Where the fields of the subresource `/scale` are."""

    wanted: str
    found: str
    selector: str

    def document(self) -> dict[str, Any]:
        """The subresource as the API server wants it."""
        return {
            "specReplicasPath": self.wanted,
            "statusReplicasPath": self.found,
            "labelSelectorPath": self.selector,
        }


@dataclass(frozen=True)
class Definition:
    """What a resource definition needs beyond its model."""

    model: type[Resource]
    plural: str
    short_name: str
    columns: tuple[Column, ...]
    scope: str = "Cluster"
    scale: Scale | None = None

    @property
    def file_name(self) -> str:
        """Name of the file below `crds/`."""
        return f"{GROUP}_{self.plural}.yaml"

    def document(self) -> dict[str, Any]:
        """The CustomResourceDefinition as JSON values."""
        kind = self.model.kind_name()
        scale = {"scale": self.scale.document()} if self.scale is not None else {}
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{self.plural}.{GROUP}"},
            "spec": {
                "group": GROUP,
                "scope": self.scope,
                "names": {
                    "kind": kind,
                    "listKind": f"{kind}List",
                    "plural": self.plural,
                    "singular": kind.lower(),
                    "shortNames": [self.short_name],
                    "categories": [CATEGORY],
                },
                "versions": [
                    {
                        "name": VERSION,
                        "served": True,
                        "storage": True,
                        "subresources": {"status": {}, **scale},
                        "additionalPrinterColumns": [column.document() for column in self.columns],
                        "schema": {"openAPIV3Schema": structural_schema(self.model)},
                    }
                ],
            },
        }


_READY: Final = '.status.conditions[?(@.type=="Ready")]'
_AGE: Final = Column("Age", "date", ".metadata.creationTimestamp")

DEFINITIONS: Final = (
    Definition(
        PackingPlan,
        PackingPlan.plural,
        "pplan",
        (
            Column("Policy", "string", ".spec.policy"),
            Column("Approval", "string", ".spec.approval"),
            Column("Phase", "string", ".status.phase"),
            Column("Steps", "string", ".status.progress"),
            Column("Reason", "string", ".status.reason"),
            Column("Certified", "boolean", ".status.certified", wide=True),
            Column("Unplaced", "integer", ".status.unplacedTotal", wide=True),
            Column("Empties", "string", ".spec.empties", wide=True),
            Column("Message", "string", ".status.message", wide=True),
            _AGE,
        ),
    ),
    Definition(
        PackingPolicy,
        PackingPolicy.plural,
        "pp",
        (
            Column("Mode", "string", ".spec.mode"),
            Column("Paused", "boolean", ".spec.paused"),
            Column("Ready", "string", f"{_READY}.status"),
            Column("Reason", "string", f"{_READY}.reason"),
            Column("Pending", "integer", ".status.pendingPods"),
            Column("Plans", "integer", ".status.plansDone"),
            Column("Last plan", "string", ".status.lastPlan"),
            Column("Priority", "integer", ".spec.priority", wide=True),
            Column("Nodes", "integer", ".status.nodes", wide=True),
            Column("Message", "string", f"{_READY}.message", wide=True),
            _AGE,
        ),
    ),
    Definition(
        TrainingJob,
        TrainingJob.plural,
        "tj",
        (
            Column("State", "string", ".status.phase"),
            Column("Nodes", "string", ".status.nodes.summary"),
            Column("Step", "integer", ".status.progress.step"),
            Column("Goodput", "string", ".status.goodput.ratio"),
            Column("Restarts", "integer", ".status.restartCount"),
            Column("Reason", "string", ".status.reason", wide=True),
            Column("Last failure", "string", ".status.lastFailure.event", wide=True),
            Column("Message", "string", ".status.message", wide=True),
            _AGE,
        ),
        scope="Namespaced",
        scale=Scale(".spec.nodes.target", ".status.nodes.ready", ".status.selector"),
    ),
    Definition(
        ModelService,
        ModelService.plural,
        "msvc",
        (
            Column("Ready", "integer", ".status.readyReplicas"),
            Column("Desired", "integer", ".status.desiredReplicas"),
            Column("SLO", "string", ".status.slo.attainment"),
            Column("Reason", "string", ".status.reason"),
            Column("Cost", "string", ".status.spend.costPerHour", wide=True),
            Column("Cold start", "string", ".status.coldStart.p90", wide=True),
            Column("Message", "string", ".status.message", wide=True),
            _AGE,
        ),
        scope="Namespaced",
        scale=Scale(".spec.replicas", ".status.replicas", ".status.selector"),
    ),
    Definition(
        PerformanceProfile,
        PerformanceProfile.plural,
        "pprof",
        (
            Column("Model", "string", ".spec.model"),
            Column("Accelerator", "string", ".spec.accelerator"),
            Column("Engine", "string", ".spec.engine.type"),
            Column("Tensor", "integer", ".spec.parallelism.tensor"),
            Column("Pipeline", "integer", ".spec.parallelism.pipeline", wide=True),
            Column("KV tokens", "integer", ".spec.kvCacheTokens"),
            Column("Source", "string", ".spec.source", wide=True),
            _AGE,
        ),
    ),
)


def documents() -> list[dict[str, Any]]:
    """Every CustomResourceDefinition, ready to be applied."""
    return [definition.document() for definition in DEFINITIONS]


def files() -> dict[str, str]:
    """The text of every file below `crds/`, by file name."""
    return {
        definition.file_name: HEADER
        + yaml.dump(definition.document(), Dumper=_PlainDumper, sort_keys=False, width=_WIDTH, allow_unicode=True)
        for definition in DEFINITIONS
    }


def write(directory: Path) -> list[Path]:
    """Write every file below `directory`; returns those that changed."""
    changed = drift(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for path in changed:
        path.write_text(files()[path.name], encoding="utf-8")
    return changed


def drift(directory: Path) -> list[Path]:
    """The files below `directory` that do not say what the models say, sorted; a missing file counts."""
    return sorted(
        directory / name
        for name, text in files().items()
        if not (directory / name).is_file() or (directory / name).read_text(encoding="utf-8") != text
    )
