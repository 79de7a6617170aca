"""The answer of `stowage why modelservice/NAME`: how a service is, and the story of the last decision of each role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

if TYPE_CHECKING:
    from stowage.api.conditions import Condition
    from stowage.api.model_service import ModelService
    from stowage.api.model_service_status import DecisionRecord, ModelServiceStatus, RoleMix, RoleStatus
    from stowage_scheduler.kube.dump import Dump

_LONGEST = 300
_MOST_EARLIER = 4


class DecisionStory(Struct, frozen=True):
    """One decision; times in seconds since 1970."""

    at: float
    before: int
    after: int
    reason: str
    recommender: str = ""
    words: str = ""
    inputs: Mapping[str, str] = {}
    recommendations: Mapping[str, int] = {}
    valid_until: float | None = None


class GroupStory(Struct, frozen=True):
    """A replica of several pods that was made anew; `since` in seconds since 1970."""

    variant: str
    ordinal: int
    restarts: int
    since: float
    reason: str = ""
    words: str = ""


class MixStory(Struct, frozen=True):
    """Of which variants replicas are, in order: replicas and requests per second of each; since when."""

    reason: str
    since: float
    variants: Mapping[str, tuple[int, float]] = {}


class RoleStory(Struct, frozen=True):
    """One role: its replicas, why there are so many, and its decisions, the newest first."""

    role: str
    desired: int
    ready: int
    starting: int
    draining: int
    spare: int = 0
    cached_nodes: int = 0
    reason: str = ""
    words: str = ""
    since: float | None = None
    variants: Mapping[str, tuple[int, int]] = {}
    """Desired and ready by variant."""
    groups: tuple[GroupStory, ...] = ()
    """Replicas of several pods that were made anew lately."""
    decisions: tuple[DecisionStory, ...] = ()
    mix: MixStory | None = None


class ServiceAnswer(Struct, frozen=True):
    """What is to be said of a service; `now` and times in seconds since 1970."""

    service: str
    now: float
    conditions: tuple[tuple[str, str, str, str], ...] = ()
    """Type, status, reason and message."""
    roles: tuple[RoleStory, ...] = ()
    attainment: float | None = None
    requests: int = 0
    cold_start_seconds: tuple[float, float] | None = None
    """Median and nine of ten."""
    signal_at: float | None = None
    help: str = ""

    @property
    def positive(self) -> bool:
        """Whether the service is acted on, and has the replicas that it needs."""
        bad = {kind for kind, status, _, _ in self.conditions if status == "False"}
        return bool(self.roles) and not bad & {"Accepted", "Available", "TargetsMet"}


def find_service(facts: Dump, namespace: str, name: str) -> ModelService:
    """The service of this name in a dump.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    from stowage.api.model_service import ModelService
    from stowage.api.resource import InvalidObjectError
    from stowage.cli.errors import InputError

    for document in facts.services:
        metadata = document.get("metadata")
        if isinstance(metadata, dict) and (metadata.get("namespace"), metadata.get("name")) == (namespace, name):
            try:
                return ModelService.parse_stored(document)
            except InvalidObjectError as error:
                raise InputError(str(error)) from error
    raise InputError(f"modelservice {namespace}/{name}: not found")


def explain(service: ModelService, now: float) -> ServiceAnswer:
    """What the status of a service tells.

    Args:
        service: as it is stored.
        now: seconds since 1970.
    """
    status = service.status
    slo, start = status.slo, status.cold_start
    return ServiceAnswer(
        service=service.key,
        now=now,
        conditions=tuple(_condition(one) for one in status.conditions),
        roles=tuple(_role(one, status) for one in status.roles),
        attainment=float(slo.attainment) if slo is not None and slo.attainment is not None else None,
        requests=slo.requests if slo is not None else 0,
        cold_start_seconds=(start.p50.seconds, start.p90.seconds) if start is not None else None,
        signal_at=status.last_signal_at.timestamp() if status.last_signal_at is not None else None,
        help=_help(service),
    )


def _condition(one: Condition) -> tuple[str, str, str, str]:
    from stowage.decide.training.job_announcements import one_line

    return one.type, one.status.value, one.reason, one_line(one.message, _LONGEST)


def _role(one: RoleStatus, status: ModelServiceStatus) -> RoleStory:
    from stowage.decide.training.job_announcements import one_line

    made = [_decision(record) for record in reversed(status.decisions) if record.role == one.name]
    return RoleStory(
        role=one.name,
        desired=one.desired,
        ready=one.ready,
        starting=one.starting,
        draining=one.draining,
        spare=one.spare,
        cached_nodes=one.cached_nodes,
        reason=one.reason or "",
        words=one_line(one.message, _LONGEST),
        since=one.since.timestamp() if one.since is not None else None,
        variants={variant.name: (variant.desired, variant.ready) for variant in one.variants},
        groups=tuple(
            GroupStory(
                variant.name,
                group.ordinal,
                group.restarts,
                group.since.timestamp(),
                group.reason or "",
                one_line(group.message, _LONGEST),
            )
            for variant in one.variants
            for group in variant.groups
            if group.restarts
        ),
        decisions=tuple(made[: 1 + _MOST_EARLIER]),
        mix=_mix(one.mix) if one.mix is not None else None,
    )


def _mix(one: RoleMix) -> MixStory:
    parts = {part.name: (part.replicas, float(part.requests_per_second or 0)) for part in one.variants}
    return MixStory(one.reason, one.since.timestamp(), parts)


def _decision(one: DecisionRecord) -> DecisionStory:
    from stowage.decide.training.job_announcements import one_line

    return DecisionStory(
        at=one.at.timestamp(),
        before=one.from_,
        after=one.to,
        reason=one.reason,
        recommender=one.recommender or "",
        words=one_line(one.message, _LONGEST),
        inputs=dict(sorted(one.inputs.items())),
        recommendations={asked.recommender: asked.replicas for asked in one.recommendations},
        valid_until=one.valid_until.timestamp() if one.valid_until is not None else None,
    )


def _help(service: ModelService) -> str:
    """What to do first about a service that is not as it shall be."""
    from stowage.api.model_service_reasons import ServiceReason

    if not service.status.conditions:
        return "the operator has not looked at it yet: kubectl stowage doctor says whether one runs"
    at = f"{service.name} -n {service.namespace}"
    words = {
        ServiceReason.CHILD_REFUSED: "Accepted says what is refused: change the template, or what refuses it",
        ServiceReason.REPLICAS_UNPLACED: "kubectl stowage why pod/NAME tells which nodes each pod would fit",
        ServiceReason.REPLICAS_FAILING: "kubectl logs and kubectl describe of the pods that Available names",
        ServiceReason.QUOTA_FULL: "a larger ResourceQuota, or fewer replicas",
        ServiceReason.MANUAL_OVERRIDE: "spec.replicas fixes the first role; take it away to let it follow its load: "
        f"""kubectl patch msvc {at} --type merge -p '{{"spec":{{"replicas":null}}}}'""",
        ServiceReason.PAUSED: "scaling.paused: false lets replicas change",
        ServiceReason.UNKNOWN_ENDPOINT: "define the endpoint in prometheus.endpoints of the chart",
        ServiceReason.FOREIGN_EDIT: "one writer alone: take the other autoscaler away, then scale the Deployment back",
        ServiceReason.PROFILE_MISSING: "kubectl get pprof shows the profiles that there are",
        ServiceReason.REPLICAS_STARTING: "",  # signals come once one is ready
        ServiceReason.SIGNALS_MISSING: "see to it that Prometheus scrapes the replicas",
        ServiceReason.TARGET_OUT_OF_REACH: "a target that a replica can meet, a faster variant, or a profile that is "
        "right: Accepted names the target",
    }
    reasons = [one.reason for one in service.status.conditions]
    return next((text for reason, text in words.items() if reason in reasons), "")


def document(answer: ServiceAnswer) -> dict[str, Any]:
    """The answer as JSON values; times are seconds since 1970."""
    start = answer.cold_start_seconds
    return {
        "service": answer.service,
        "conditions": [
            {"type": kind, "status": status, "reason": reason, "message": message}
            for kind, status, reason, message in answer.conditions
        ],
        "roles": [_role_document(one) for one in answer.roles],
        "attainment": answer.attainment,
        "requests": answer.requests,
        "coldStartSeconds": {"p50": start[0], "p90": start[1]} if start is not None else None,
        "lastSignalAt": answer.signal_at,
        "help": answer.help,
    }


def _role_document(one: RoleStory) -> dict[str, Any]:
    return {
        "role": one.role,
        "desired": one.desired,
        "ready": one.ready,
        "starting": one.starting,
        "draining": one.draining,
        "spare": one.spare,
        "cachedNodes": one.cached_nodes,
        "reason": one.reason,
        "message": one.words,
        "since": one.since,
        "variants": {name: {"desired": desired, "ready": ready} for name, (desired, ready) in one.variants.items()},
        "groups": [
            {
                "variant": group.variant,
                "ordinal": group.ordinal,
                "restarts": group.restarts,
                "since": group.since,
                "reason": group.reason,
                "message": group.words,
            }
            for group in one.groups
        ],
        "mix": {
            "reason": one.mix.reason,
            "since": one.mix.since,
            "variants": {
                name: {"replicas": count, "requestsPerSecond": rate} for name, (count, rate) in one.mix.variants.items()
            },
        }
        if one.mix is not None
        else None,
        "decisions": [
            {
                **{name: value for name, value in structs.asdict(story).items() if name not in _RENAMED},
                "from": story.before,
                "to": story.after,
                "message": story.words,
                "validUntil": story.valid_until,
            }
            for story in one.decisions
        ],
    }


_RENAMED = frozenset({"before", "after", "words", "valid_until"})
