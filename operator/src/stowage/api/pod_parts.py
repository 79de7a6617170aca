"""Parts of pod templates that several kinds of resources share: what is not named in them is handed on as written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

from pydantic import ConfigDict, Field, model_validator

from stowage.api.fields import LabelKey, LabelValue, NamespaceName, cel
from stowage.api.names import GROUP
from stowage.api.passed_through import UNKNOWN_KEPT, Shape, misshapen
from stowage.api.resource import SpecFields

OWN_PREFIX: Final = "stowage-"
"""Of the containers and volumes that Stowage adds."""
DEFAULT_GRACE_SECONDS: Final = 30
DEFAULT_SCHEDULER: Final = "default-scheduler"

Text = Annotated[str, Field(max_length=64 * 1024)]

_NAME_RULE: Final = f"names must not begin with {OWN_PREFIX}: those are of what Stowage adds"
_OWN_LABEL_RULE: Final = f"keys must not begin with {GROUP}/: Stowage sets those"
OF_CONTAINERS: Final[Mapping[str, Shape]] = {
    "volumeMounts": (dict,),
    "env": ({"name": str},),
    "lifecycle": dict,
    "securityContext": dict,
    "resources": {"requests": dict, "limits": dict},
}
_TERMS: Final[Mapping[str, Shape]] = {"nodeSelectorTerms": ({"matchFields": (dict,), "matchExpressions": (dict,)},)}
_LISTS: Final[Mapping[str, Shape]] = {
    "requiredDuringSchedulingIgnoredDuringExecution": (dict,),
    "preferredDuringSchedulingIgnoredDuringExecution": (dict,),
}
OF_PODS: Final[Mapping[str, Shape]] = {
    "terminationGracePeriodSeconds": int,
    "schedulerName": str,
    "priorityClassName": str,
    "tolerations": (dict,),
    "imagePullSecrets": (dict,),
    "nodeSelector": dict,
    "affinity": {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": _TERMS},
        "podAffinity": _LISTS,
        "podAntiAffinity": _LISTS,
    },
}
"""What Stowage reads of the fields that it hands on. No schema knows them, so the models hold this."""


def require_shape(extra: Mapping[str, Any] | None, shape: Mapping[str, Shape]) -> None:
    """Check what Stowage reads of fields that it hands on.

    Raises:
        ValueError: a field has another shape; the message names it.
    """
    wrong = next(misshapen(extra or {}, shape, ""), None)
    if wrong is not None:
        raise ValueError(wrong)


class Named(SpecFields):
    """A part of a pod that is known by its name; all else of it is kept as it is written."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={**cel((f"!self.name.startsWith('{OWN_PREFIX}')", _NAME_RULE)), **UNKNOWN_KEPT},
    )

    name: Annotated[NamespaceName, Field(description="Name within the pod.")]

    @model_validator(mode="after")
    def _name_is_free(self) -> Self:
        if self.name.startswith(OWN_PREFIX):
            raise ValueError(_NAME_RULE)
        return self


class TemplateMetadata(SpecFields):
    """Labels and annotations that the pods get beside those of Stowage."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                (
                    f"self.labels.all(key, !key.startsWith('{GROUP}/')) && "
                    f"self.annotations.all(key, !key.startsWith('{GROUP}/'))"
                ),
                _OWN_LABEL_RULE,
            )
        )
    )

    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=64)] = Field(default={})
    """Labels of each pod."""
    annotations: Annotated[dict[LabelKey, Text], Field(max_length=64)] = Field(default={})
    """Annotations of each pod."""

    @model_validator(mode="after")
    def _keys_are_free(self) -> Self:
        if any(key.startswith(f"{GROUP}/") for key in (*self.labels, *self.annotations)):
            raise ValueError(_OWN_LABEL_RULE)
        return self


class OfPods(SpecFields):
    """What Stowage reads of the spec of a template's pods, whatever they run."""

    @property
    def grace_seconds(self) -> int:
        """`terminationGracePeriodSeconds`, 30 where it is absent."""
        given = (self.model_extra or {}).get("terminationGracePeriodSeconds")
        return DEFAULT_GRACE_SECONDS if given is None else int(given)

    @property
    def scheduler_name(self) -> str:
        """Who places the pods."""
        return str((self.model_extra or {}).get("schedulerName") or DEFAULT_SCHEDULER)

    @model_validator(mode="after")
    def _shaped(self) -> Self:
        require_shape(self.model_extra, OF_PODS)
        return self
