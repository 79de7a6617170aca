"""Label selectors of custom resources, and their way into the packer's facts."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from stowage.api.fields import ATOMIC, LabelKey, LabelValue, NodeLabels, cel
from stowage.api.resource import SpecFields
from stowage_scheduler import cluster


class SelectorOperator(StrEnum):
    """How a label is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


_VALUES_RULE = "values must be given for In and NotIn, and left out for Exists and DoesNotExist"


class SelectorExpression(SpecFields):
    """One condition on a label."""

    model_config = ConfigDict(
        json_schema_extra=cel(("(self.operator in ['In', 'NotIn']) == (size(self.values) > 0)", _VALUES_RULE))
    )

    key: LabelKey
    """Label key."""
    operator: SelectorOperator
    """In, NotIn, Exists or DoesNotExist."""
    values: Annotated[tuple[LabelValue, ...], Field(max_length=64, json_schema_extra=ATOMIC)] = ()
    """What the label may, or may not, be."""

    @model_validator(mode="after")
    def _values_fit_operator(self) -> Self:
        if (self.operator in {SelectorOperator.IN, SelectorOperator.NOT_IN}) != bool(self.values):
            raise ValueError(_VALUES_RULE)
        return self


class LabelSelector(SpecFields):
    """Selects objects by their labels; all conditions must hold, and an empty selector selects everything."""

    match_labels: NodeLabels = Field(default={})
    """Labels that must be there with exactly these values."""
    match_expressions: Annotated[tuple[SelectorExpression, ...], Field(max_length=16, json_schema_extra=ATOMIC)] = ()
    """Further conditions."""

    def to_fact(self) -> cluster.LabelSelector:
        """The selector as the packer reads it."""
        return cluster.LabelSelector(
            labels=tuple(sorted(self.match_labels.items())),
            expressions=tuple(
                cluster.Requirement(one.key, one.operator.value, one.values) for one in self.match_expressions
            ),
        )
