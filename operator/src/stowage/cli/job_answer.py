"""The answer of `stowage why trainingjob/NAME`: how a job is, why it waits, and the story of its last failure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

from stowage.cli.errors import InputError

if TYPE_CHECKING:
    from stowage.api.training_job import TrainingJob
    from stowage.cli.pod_answer import Answer
    from stowage.decide.training.failure_story import FailureStory
    from stowage_scheduler.cluster import Pod
    from stowage_scheduler.kube.dump import Dump

_MOST_SEATS = 8


class SeatLine(Struct, frozen=True):
    """A seat that holds the job up: where it is, and what its containers wait for."""

    seat: str
    pod: str
    node: str | None
    words: str


class SlowRank(Struct, frozen=True):
    """A rank that is slower than the others; seconds of its steps and waits, medians."""

    rank: int
    seat: str
    node: str | None
    step_seconds: float
    wait_seconds: float
    ratio: float


class JobAnswer(Struct, frozen=True):
    """What is to be said of a job; times in seconds since 1970."""

    job: str
    phase: str
    now: float
    since: float | None = None
    reason: str = ""
    message: str = ""
    epoch: int = 0
    attempt: int = 0
    nodes: str = ""
    step: int | None = None
    step_seconds: float | None = None
    goodput: float | None = None
    lost_seconds: Mapping[str, int] = {}
    restarts: Mapping[str, int] = {}
    help: str = ""
    notes: tuple[str, ...] = ()
    pod: Answer | None = None  # of the first pod that has no node
    waiting: int = 0  # pods without a node
    seats: tuple[SeatLine, ...] = ()
    slow: tuple[SlowRank, ...] = ()
    failure: FailureStory | None = None

    @property
    def positive(self) -> bool:
        """Whether the job goes on, has succeeded, or rests because it was asked to."""
        if self.phase in {"Failed", "Paused"}:
            return False
        return self.pod is None or self.pod.positive


def find_job(facts: Dump, namespace: str, name: str) -> TrainingJob:
    """The job of this name.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    from stowage.api.resource import InvalidObjectError
    from stowage.api.training_job import TrainingJob

    elsewhere = []
    for document in facts.jobs:
        metadata = document.get("metadata")
        if not isinstance(metadata, dict) or metadata.get("name") != name:
            continue
        if metadata.get("namespace") == namespace:
            try:
                return TrainingJob.parse_stored(document)
            except InvalidObjectError as error:
                raise InputError(str(error)) from error
        elsewhere.append(str(metadata.get("namespace")))
    hint = f" (there is one in namespace {min(elsewhere)})" if elsewhere else ""
    raise InputError(f"trainingjob {namespace}/{name}: not found{hint}")


def explain(facts: Dump, job: TrainingJob, policy: str | None, seconds: float | None) -> JobAnswer:
    """Look at a job.

    Args:
        facts: the cluster, its policies and its jobs.
        job: of these.
        policy: `--policy`.
        seconds: for the search of a place for pods that wait; None: a short one.
    """
    from stowage.decide.training.failure_story import failure_story

    status, progress = job.status, job.status.progress
    answer = JobAnswer(
        job=job.key,
        phase=status.phase.value if status.phase is not None else "New",
        now=facts.snapshot.now,
        since=status.phase_since.timestamp() if status.phase_since is not None else None,
        reason=status.reason or "",
        message=status.message,
        epoch=status.epoch,
        attempt=status.attempt,
        nodes=status.nodes.summary,
        step=progress.step,
        step_seconds=float(progress.step_seconds) if progress.step_seconds else None,
        goodput=float(status.goodput.ratio) if status.goodput is not None else None,
        lost_seconds={one.cause.value: one.seconds for one in status.goodput.lost_seconds} if status.goodput else {},
        restarts={one.scope.value: one.count for one in status.restarts},
        help=_help(job),
        notes=_notes(job),
        slow=_slow(job),
        failure=failure_story(job),
    )
    return _with_pods(answer, facts, job, policy, seconds)


def _with_pods(
    answer: JobAnswer, facts: Dump, job: TrainingJob, policy: str | None, seconds: float | None
) -> JobAnswer:
    """With why pods have no node, or do not run."""
    from stowage.api.training_words import JobPhase
    from stowage.cli.facts import choose
    from stowage.cli.pod_answer import explain as explain_pod

    if job.status.phase in {JobPhase.SUCCEEDED, JobPhase.FAILED, JobPhase.SUSPENDED, JobPhase.PAUSED}:
        return answer
    pods = _seat_pods(facts, job)
    waiting = [pod for pod in pods if pod.node is None]
    answer = structs.replace(answer, waiting=len(waiting), seats=tuple(_held_up(job, pods))[:_MOST_SEATS])
    if not waiting:
        return answer
    return structs.replace(answer, pod=explain_pod(facts.snapshot, waiting[0], choose(policy, facts), seconds))


def _seat_pods(facts: Dump, job: TrainingJob) -> list[Pod]:
    """The pods that count, in order of seats."""
    from stowage.decide.training.seats import current_pods, number

    mine = [pod for pod in facts.snapshot.pods if pod.namespace == job.namespace and not pod.finished]
    return [pod for _, pod in sorted(current_pods(job, mine).items(), key=lambda item: number(item[0]))]


def _held_up(job: TrainingJob, pods: list[Pod]) -> list[SeatLine]:
    from stowage.api.names import SEAT_LABEL
    from stowage.decide.training.evidence_of_pods import NOT_PULLED
    from stowage.decide.training.waiting import image_words

    found = []
    for pod in pods:
        waits = pod.health.waiting if pod.health is not None else ()
        others = (f"container {name} waits: {reason}" for name, reason in waits if reason not in NOT_PULLED)
        words = ", ".join((*image_words(job, pod), *others))
        if pod.node is not None and not pod.ready and words:
            found.append(SeatLine(pod.labels.get(SEAT_LABEL, ""), pod.key, pod.node, words))
    return found


def _help(job: TrainingJob) -> str:
    """What to do about a job that does not go on."""
    from stowage.api.training_words import Domain, JobPhase

    match job.status.phase:
        case JobPhase.PAUSED:
            patch = f"kubectl patch tj {job.name} -n {job.namespace} --type merge -p"
            return f"""{patch} '{{"spec":{{"suspend":true}}}}', then the same with false"""
        case JobPhase.SUSPENDED:
            return "spec.suspend: false lets it go on"
        case JobPhase.FAILED:
            failure = job.status.last_failure
            if failure is not None and failure.domain is Domain.WORKLOAD:
                return "the program: mend it, delete the job and make it again; checkpoints stay"
            return "delete the job and make it again; checkpoints stay"
        case None:
            return "the operator has not looked at it yet: kubectl stowage doctor says whether one runs"
        case _:
            return ""


def _notes(job: TrainingJob) -> tuple[str, ...]:
    """Conditions that people should know of."""
    from stowage.api.conditions import ConditionStatus
    from stowage.api.training_reasons import JobCondition, JobReason
    from stowage.decide.training.job_announcements import one_line

    found = []
    for one in job.status.conditions:
        words = f": {one_line(one.message, 300)}" if one.message else ""
        if one.type in {JobCondition.ACCEPTED, JobCondition.OBSERVED} and one.status is ConditionStatus.FALSE:
            found.append(f"{one.reason}{words}")
        if one.type == JobCondition.RUNNING and one.reason == JobReason.COORDINATOR_UNREACHABLE:
            found.append("the coordinator does not answer; training goes on without it")
        if one.type == JobCondition.PLACED and one.reason == JobReason.NO_POLICY:
            found.append("no PackingPolicy covers its pods: kube-scheduler places them one by one")
        if one.type == JobCondition.PLACED and one.reason == JobReason.AWAITING_QUOTA:
            found.append(f"its queue {job.spec.queue_name or ''} has not admitted it yet".replace("  ", " "))
    sizing = job.status.sizing
    if sizing is not None and sizing.message:
        found.append(f"number of nodes: {one_line(sizing.message, 300)}")
    return tuple(found)


def _slow(job: TrainingJob) -> tuple[SlowRank, ...]:
    return tuple(
        SlowRank(one.rank, one.seat, one.node, float(one.step_seconds), float(one.wait_seconds), float(one.ratio))
        for one in job.status.stragglers
    )


def document(answer: JobAnswer) -> dict[str, Any]:
    """The answer as JSON values; times are seconds since 1970."""
    from stowage.cli.pod_answer import document as pod_document

    return {
        "job": answer.job,
        "phase": answer.phase,
        "since": answer.since,
        "reason": answer.reason,
        "message": answer.message,
        "help": answer.help,
        "notes": [*answer.notes],
        "epoch": answer.epoch,
        "attempt": answer.attempt,
        "nodes": answer.nodes,
        "step": answer.step,
        "stepSeconds": answer.step_seconds,
        "goodput": answer.goodput,
        "lostSeconds": dict(answer.lost_seconds),
        "restarts": dict(answer.restarts),
        "podsWithoutNode": answer.waiting,
        "pod": pod_document(answer.pod) if answer.pod is not None else None,
        "seatsThatWait": [structs.asdict(one) for one in answer.seats],
        "slowRanks": [
            {
                "rank": one.rank,
                "seat": one.seat,
                "node": one.node,
                "stepSeconds": one.step_seconds,
                "waitSeconds": one.wait_seconds,
                "ratio": one.ratio,
            }
            for one in answer.slow
        ],
        "lastFailure": _failure_document(answer.failure) if answer.failure is not None else None,
    }


def _failure_document(story: FailureStory) -> dict[str, Any]:
    return {
        "at": story.at,
        "event": story.event.value,
        "where": story.where,
        "how": story.how,
        "class": story.domain.value,
        "seen": [structs.asdict(one) for one in story.seen],
        "action": story.action.value,
        "reason": story.reason,
        "rule": story.rule,
        "message": story.words,
        "triedBefore": [structs.asdict(one) for one in story.tried],
        "budget": {
            "used": story.budget.used,
            "restarts": story.budget.allowed,
            "windowSeconds": story.budget.window_seconds,
        },
        "stageSeconds": dict(story.stages),
        "openStage": story.open_stage,
        "totalSeconds": story.total_seconds,
        "fromStep": story.from_step,
        "avoidedNodes": dict(story.avoided),
    }
