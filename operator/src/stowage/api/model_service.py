"""ModelService: a model that answers requests, with as many replicas as its latency targets need."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from stowage.api.amounts import Amount, Between
from stowage.api.durations import Duration, within
from stowage.api.engine_type import EngineType
from stowage.api.fields import Integer, NamespaceName, Unique, cel
from stowage.api.model_service_engine import Engine
from stowage.api.model_service_role import DECODE, MAX_REPLICAS, MAX_ROLES, PREFILL, Role
from stowage.api.model_service_scaling import Minimize, Scaling
from stowage.api.model_service_status import ModelServiceStatus
from stowage.api.names import MAX_SERVICE_NAME
from stowage.api.resource import NamespacedResource, SpecFields

_MODEL: Final = r"^[A-Za-z0-9]([A-Za-z0-9._:/@-]*[A-Za-z0-9])?$"
_URI: Final = r"^(pvc|hf|s3|gs|oci|https|file)://[A-Za-z0-9._~:/?#@!$&()*+,;=%-]+$"


class ServedModel(SpecFields):
    """Which model is served."""

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=_MODEL)] | None = None
    """As requests, and the engine's metrics, call it; absent: the name of the service."""
    uri: Annotated[str, Field(min_length=1, max_length=1024, pattern=_URI)] | None = None
    """
    Where its weights are: pvc, hf, s3, gs, oci, https or file. For keeping them on nodes; the engine is told in its
    own template.
    """


class Ratio(SpecFields):
    """How prefill and decode replicas are held together."""

    prefill: Annotated[Integer, Field(ge=1, le=64)]
    """Replicas of prefill …"""
    decode: Annotated[Integer, Field(ge=1, le=64)]
    """… for so many of decode."""
    tolerance: Annotated[Amount, Between("0", "1")] = "0.5"
    """Share by which decode replicas for each of prefill may differ from that, to either side."""

    @property
    def least(self) -> float:
        """Fewest decode replicas for each of prefill."""
        return self.decode / self.prefill * (1.0 - float(self.tolerance))

    @property
    def most(self) -> float:
        """Most decode replicas for each of prefill."""
        return self.decode / self.prefill * (1.0 + float(self.tolerance))


_TARGET_RULE: Final = "slo must have at least one of timeToFirstToken, interTokenLatency and endToEnd"
_END_RULE: Final = "slo.endToEnd must be longer than slo.timeToFirstToken"
Share = Annotated[Amount, Between("0.5", "0.9999")]


class ServiceLevel(SpecFields):
    """What users of the model are promised. A request counts as good when it meets every target that is given."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("has(self.timeToFirstToken) || has(self.interTokenLatency) || has(self.endToEnd)", _TARGET_RULE),
            (
                (
                    "!has(self.timeToFirstToken) || !has(self.endToEnd) || "
                    "duration(self.endToEnd) > duration(self.timeToFirstToken)"
                ),
                _END_RULE,
            ),
        )
    )

    time_to_first_token: Annotated[Duration, within("1ms", "1h")] | None = None
    """From a request's arrival to its first token."""
    inter_token_latency: Annotated[Duration, within("100us", "1m")] | None = None
    """Mean time between two tokens of a request."""
    end_to_end: Annotated[Duration, within("1ms", "24h")] | None = None
    """From a request's arrival to its last token."""
    attainment: Share = "0.99"
    """Share of requests that shall be good, of those with a first token; engines measure no others."""
    quantile: Share | None = None
    """Quantile of measured latencies that is held against the targets from minute to minute; absent: `attainment`."""
    window: Annotated[Duration, within("1m", "720h")] = Duration("1h")
    """Over how long `attainment` is counted."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        first, end = self.time_to_first_token, self.end_to_end
        if first is None and end is None and self.inter_token_latency is None:
            raise ValueError(_TARGET_RULE)
        if first is not None and end is not None and end.seconds <= first.seconds:
            raise ValueError(_END_RULE)
        return self


class MetricsSource(SpecFields):
    """Where signals come from."""

    prometheus: NamespaceName = "default"
    """Name of an endpoint that admins define for the operator."""
    stale_after: Annotated[Duration, within("5s", "1h")] = Duration("60s")
    """Samples that are older are no knowledge: replicas stay or rise."""


_PAIR_RULE: Final = f"roles {PREFILL} and {DECODE} must be given together"
_RATIO_RULE: Final = f"ratio must be given with roles {PREFILL} and {DECODE} only"
_REPLICAS_RULE: Final = "replicas must not be more than bounds.max of the first role"
_BUDGET_COST_RULE: Final = "every variant must have costPerHour with scaling.budget.costPerHour"
_BUDGET_POWER_RULE: Final = (
    "every variant must have powerWatts with scaling.budget.powerWatts, and with minimize: Power"
)
_CACHE_RULE: Final = "model.uri must be given with warm.nodes: it says what nodes shall hold"
_HISTOGRAM_RULE: Final = "engine.metrics must name the histogram of every target of slo with type Custom"
_CHILD_RULE: Final = "names of role and variant, joined by -, must be unique: Deployments are called so"
_HAS_ROLE: Final = "self.roles.exists(one, one.name == '{0}')"
_EACH_VARIANT: Final = "self.roles.all(role, role.variants.all(one, has(one.{0})))"
_BUDGET: Final = "has(self.scaling.budget) && has(self.scaling.budget.{0})"
_NAMED: Final = "(!has(self.slo.{0}) || has(self.engine.metrics.{0}))"


def _rules() -> tuple[tuple[str, str], ...]:
    pair = f"{_HAS_ROLE.format(PREFILL)} == {_HAS_ROLE.format(DECODE)}"
    ratio = f"!has(self.ratio) || ({_HAS_ROLE.format(PREFILL)} && {_HAS_ROLE.format(DECODE)})"
    cost = f"!({_BUDGET.format('costPerHour')}) || {_EACH_VARIANT.format('costPerHour')}"
    asks_power = f"self.scaling.minimize == 'Power' || ({_BUDGET.format('powerWatts')})"
    targets = ("timeToFirstToken", "interTokenLatency", "endToEnd")
    named = " && ".join(_NAMED.format(one) for one in targets)
    return (
        (pair, _PAIR_RULE),
        (ratio, _RATIO_RULE),
        ("!has(self.replicas) || self.replicas <= self.roles[0].bounds.max", _REPLICAS_RULE),
        (cost, _BUDGET_COST_RULE),
        (f"!({asks_power}) || {_EACH_VARIANT.format('powerWatts')}", _BUDGET_POWER_RULE),
        ("has(self.model.uri) || self.roles.all(one, one.warm.nodes == 0)", _CACHE_RULE),
        (f"!has(self.slo) || self.engine.type != 'Custom' || !has(self.engine.metrics) || ({named})", _HISTOGRAM_RULE),
    )


class ModelServiceSpec(SpecFields):
    """What shall be served, and how. One role with one variant and its template is enough."""

    model_config = ConfigDict(json_schema_extra=cel(*_rules()))

    model: ServedModel = ServedModel()
    """Which model is served."""
    engine: Engine = Engine()
    """Which program answers requests."""
    roles: Annotated[tuple[Role, ...], Field(min_length=1, max_length=MAX_ROLES), Unique("name")]
    """Replicas that do the same. The first role is the one that `/scale` speaks of."""
    replicas: Annotated[Integer, Field(ge=0, le=MAX_REPLICAS)] | None = None
    """Fixes the replicas of the first role by hand, as `kubectl scale` does; absent: they follow the load."""
    ratio: Ratio | None = None
    """How prefill and decode replicas are held together; absent: each follows its own load."""
    slo: ServiceLevel | None = None
    """What users of the model are promised; absent: nothing, and the recommender Slo has nothing to say."""
    scaling: Scaling = Scaling()
    """How the numbers of replicas follow the load."""
    metrics: MetricsSource = MetricsSource()
    """Where signals come from."""

    def role(self, name: str | None) -> Role | None:
        """The role of that name, the first one without a name; None: there is none."""
        return self.roles[0] if name is None else next((one for one in self.roles if one.name == name), None)

    @model_validator(mode="after")
    def _roles_fit(self) -> Self:
        names = {one.name for one in self.roles}
        if (PREFILL in names) != (DECODE in names):
            raise ValueError(_PAIR_RULE)
        if self.ratio is not None and not {PREFILL, DECODE} <= names:
            raise ValueError(_RATIO_RULE)
        if self.replicas is not None and self.replicas > self.roles[0].bounds.max:
            raise ValueError(_REPLICAS_RULE)
        children = [f"{role.name}-{one.name}" for role in self.roles for one in role.variants]
        if len({*children}) < len(children):
            raise ValueError(_CHILD_RULE)
        return self

    @model_validator(mode="after")
    def _variants_tell_what_is_asked_for(self) -> Self:
        variants = [one for role in self.roles for one in role.variants]
        budget = self.scaling.budget
        if (
            budget is not None
            and budget.cost_per_hour is not None
            and any(one.cost_per_hour is None for one in variants)
        ):
            raise ValueError(_BUDGET_COST_RULE)
        asks = self.scaling.minimize is Minimize.POWER or (budget is not None and budget.power_watts is not None)
        if asks and any(one.power_watts is None for one in variants):
            raise ValueError(_BUDGET_POWER_RULE)
        if self.model.uri is None and any(one.warm.nodes for one in self.roles):
            raise ValueError(_CACHE_RULE)
        return self

    @model_validator(mode="after")
    def _targets_can_be_seen(self) -> Self:
        if self.slo is None or self.engine.type is not EngineType.CUSTOM or self.engine.metrics is None:
            return self
        for name in ("time_to_first_token", "inter_token_latency", "end_to_end"):
            if getattr(self.slo, name) is not None and getattr(self.engine.metrics, name) is None:
                raise ValueError(_HISTOGRAM_RULE)
        return self


_NAME: Final = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
_NAME_RULE: Final = (
    f"metadata.name must be that of a Service, of at most {MAX_SERVICE_NAME} characters: a letter, then letters, "
    "digits and -"
)


class ModelService(NamespacedResource):
    """A model that answers requests, with as many replicas as its latency targets need."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (f"self.metadata.name.size() <= {MAX_SERVICE_NAME} && self.metadata.name.matches('{_NAME}')", _NAME_RULE)
        )
    )
    plural: ClassVar[str] = "modelservices"
    max_name_length: ClassVar[int] = MAX_SERVICE_NAME

    kind: Literal["ModelService"] = "ModelService"
    spec: ModelServiceSpec
    """What shall be served, and how."""
    status: ModelServiceStatus = ModelServiceStatus()
    """How it is; only the leading operator writes it."""

    @model_validator(mode="after")
    def _name_is_that_of_a_service(self) -> Self:
        if self.name and not re.fullmatch(_NAME, self.name):
            raise ValueError(_NAME_RULE)
        return self

    @property
    def served_name(self) -> str:
        """The name of the model, as requests call it."""
        return self.spec.model.name or self.name
