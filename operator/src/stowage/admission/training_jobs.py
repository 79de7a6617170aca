"""Checks of a TrainingJob against itself, the policies and the cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from stowage.admission.containers import unusable_containers
from stowage.admission.known import Known
from stowage.admission.mounts import mounts, mounts_of_nothing
from stowage.admission.verdict import Problem
from stowage.api.names import JOB_LABEL
from stowage.api.packing_policy import PackingPolicy
from stowage.api.training_job import TrainingJob
from stowage.api.training_job_recovery import Match, Rule
from stowage.api.training_words import Action, Event
from stowage.decide.training.promql_rules import PromqlRule
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.kube.matching import matches_selector

OWN_DIRECTORY: Final = "/stowage"
_RULES: Final = "spec.recovery.rules"
_LOST_WITH_PODS: Final = frozenset({"emptyDir", "hostPath"})
_SIZES_NAMED: Final = 3
_OF_ONE_SEAT: Final = frozenset({Action.RESTART_CONTAINER, Action.REPLACE_NODE})


def problems(job: TrainingJob) -> tuple[Problem, ...]:
    """What makes a job impossible to run as it is written, whatever the cluster looks like."""
    return (
        *_log_rules_twice(job),
        *_directory_taken(job),
        *unusable_containers(job.spec.template.spec, "spec.template.spec"),
        *mounts_of_nothing(job.spec.template.spec, "spec.template.spec"),
    )


def warnings(job: TrainingJob, before: TrainingJob | None, known: Known) -> tuple[str, ...]:
    """What is most likely not meant, or has effects that are easily missed.

    Args:
        job: as it shall be.
        before: as it is; None: it is new.
        known: the policies and the cluster.
    """
    found = [*_by_itself(job), *_by_its_rules(job.spec.recovery.rules), *_by_the_settings(job, known.promql_rules)]
    if before is not None:
        found += _by_what_trains(job, before)
    if before is None or before.spec.template != job.spec.template:
        found += _by_the_policies(job, known)
    if known.snapshot is not None:
        found += _by_the_cluster(job, known.snapshot)
    return tuple(found)


def _log_rules_twice(job: TrainingJob) -> Iterator[Problem]:
    """A log rule is told by its name alone."""
    patterns: dict[str, str] = {}
    for number, rule in enumerate(job.spec.recovery.rules):
        log = rule.when.log
        if log is not None and patterns.setdefault(log.name, log.pattern) != log.pattern:
            words = "an earlier rule of that name has another pattern; give this one another name"
            yield Problem(f"{_RULES}[{number}].when.log.name", log.name, words)


def _directory_taken(job: TrainingJob) -> Iterator[Problem]:
    """The checkpoint volume is mounted into the trainer, and two mounts cannot be at one place."""
    if job.spec.checkpoint.volume is None:
        return
    directory = job.spec.checkpoint.directory
    if f"{directory}/".startswith(f"{OWN_DIRECTORY}/"):
        yield Problem("spec.checkpoint.directory", directory, f"{OWN_DIRECTORY} is where Stowage mounts its own files")
    for mount in mounts(job.spec.template.spec.trainer.model_extra):
        if str(mount.get("mountPath", "")).rstrip("/") == directory:
            words = f"the trainer mounts {mount.get('name')} there; leave that mount out, or name another directory"
            yield Problem("spec.checkpoint.directory", directory, words)


def _by_itself(job: TrainingJob) -> Iterator[str]:
    spec = job.spec
    for field in spec.not_supported():
        yield f"spec.{field} is accepted, and this version does not act on it"
    volume = spec.checkpoint.volume
    kind = next(iter(volume), "") if volume is not None else ""
    if kind in _LOST_WITH_PODS:
        yield f"spec.checkpoint.volume = {kind}: checkpoints stay behind when a pod moves to another node"
    elif volume is None and not _holds(job, spec.checkpoint.directory):
        yield (
            f"spec.checkpoint.volume is absent and the trainer mounts nothing at {spec.checkpoint.directory}: "
            "checkpoints that are written there are lost with their pod"
        )
    resources = (spec.template.spec.trainer.model_extra or {}).get("resources")
    if not isinstance(resources, Mapping) or not (resources.get("requests") or resources.get("limits")):
        yield "spec.template: the trainer asks for no resources, so any number of such pods is taken to fit on a node"
    yield from _by_the_batch(job)
    yield from _by_the_size(job)


def _by_the_size(job: TrainingJob) -> Iterator[str]:
    spec = job.spec
    if len(spec.nodes.sizes) == 1:
        if spec.elastic is not None:
            yield f"spec.elastic has no effect: spec.nodes allows {spec.nodes.sizes[0]} nodes and no other number"
    elif spec.queue_name is not None and spec.nodes.target is None:
        yield (
            "spec.queueName: a job in a queue takes no more nodes by itself, for only Kueue knows the quota; "
            "spec.nodes.target asks for them"
        )


def _by_what_trains(job: TrainingJob, before: TrainingJob) -> Iterator[str]:
    """A running job that has to have fewer nodes is stopped for it, which a change of bounds does not tell."""
    size = sum(not seat.spare for seat in before.status.seats)
    sizes, target = job.spec.nodes.sizes, job.spec.nodes.target
    asked = (
        target if target is not None else size if size in sizes else max((*sizes[:1], *(n for n in sizes if n < size)))
    )
    if job.spec.nodes != before.spec.nodes and before.status.members and asked < size:
        yield f"spec.nodes: {size} nodes train; they stop at a step boundary, and {asked} go on from there"


def _by_the_batch(job: TrainingJob) -> Iterator[str]:
    batch = job.spec.batch
    if batch is None:
        return
    each = job.spec.processes_per_node * (batch.micro or 1)
    odd = [size for size in job.spec.nodes.sizes if batch.global_ % (size * each)]
    if odd:
        shown = ", ".join(map(str, odd[:_SIZES_NAMED])) + (" …" if len(odd) > _SIZES_NAMED else "")
        yield (
            f"spec.batch.global = {batch.global_}: cannot be divided evenly among the ranks of {shown} nodes; the "
            "program has to, or spec.nodes.allowed leaves them out"
        )


def _by_its_rules(rules: Sequence[Rule]) -> Iterator[str]:
    """First match wins, so what an earlier rule has taken never reaches a later one."""
    taken: dict[str, int] = {}
    for number, rule in enumerate(rules):
        matched = _matched(rule.when)
        earlier = {taken[one] for one in matched if one in taken}
        if matched and all(one in taken for one in matched):
            yield f"{_RULES}[{number}] is never reached: rule {max(earlier)} matches first"
        for one in matched:
            taken.setdefault(one, number)
        if rule.when.event is Event.LOG and not any(one.when.log is not None for one in rules):
            yield f"{_RULES}[{number}].when.event = Log: no rule says which lines are looked for"


def _by_the_settings(job: TrainingJob, known: Mapping[str, PromqlRule] | None) -> Iterator[str]:
    """PromQL rules are admins'; one that comes later is found then, so a job may be there before it."""
    for number, rule in enumerate(job.spec.recovery.rules if known is not None else ()):
        if rule.when.promql is None or known is None:
            continue
        name, field = rule.when.promql.rule, f"{_RULES}[{number}]"
        promql = known.get(name)
        if promql is None or not promql.serves(job.namespace):
            yield f"{field}.when.promql.rule = {name}: the operator's settings have no such rule for this namespace"
        elif not promql.of_pods and rule.do in _OF_ONE_SEAT:
            yield f"{field}.do = {rule.do}: {name} speaks of whole jobs and names no pod, so all processes start again"


def _matched(match: Match) -> tuple[str, ...]:
    """What a rule matches, one word for each."""
    lists: tuple[tuple[str, Sequence[object]], ...] = (
        ("code", match.exit_codes or ()),
        ("signal", match.signals or ()),
        ("type", match.error_types or ()),
        ("condition", match.node_conditions or ()),
        ("taint", match.node_taints or ()),
        ("event", (match.event,) if match.event is not None else ()),
        ("promql", (match.promql.rule,) if match.promql is not None else ()),
        ("log", (match.log.name,) if match.log is not None else ()),
    )
    return tuple(f"{kind} {one}" for kind, values in lists for one in values)


def _by_the_policies(job: TrainingJob, known: Known) -> Iterator[str]:
    if known.policies is None:
        yield f"not checked whether a PackingPolicy covers the pods: {known.unread}"
        return
    name = _scheduler(job)
    if not any(_covers(policy, job, name, known.snapshot) for policy in known.policies.values()):
        yield (
            f"no PackingPolicy covers the pods (schedulerName {name}): they are not held back until all of them have "
            "a place, and kube-scheduler places them one by one"
        )


def _scheduler(job: TrainingJob) -> str:
    return job.spec.template.spec.scheduler_name


def _covers(policy: PackingPolicy, job: TrainingJob, scheduler: str, snapshot: Snapshot | None) -> bool:
    spec = policy.spec
    if scheduler not in spec.scheduler_names:
        return False
    labels = {**job.spec.template.metadata.labels, JOB_LABEL: job.name}
    if spec.pod_selector is not None and not matches_selector(spec.pod_selector.to_fact(), labels):
        return False
    if spec.namespace_selector is None or snapshot is None:
        return True
    return matches_selector(spec.namespace_selector.to_fact(), snapshot.namespace_labels.get(job.namespace, {}))


def _by_the_cluster(job: TrainingJob, cluster: Snapshot) -> Iterator[str]:
    spec = job.spec
    if spec.nodes.min > len(cluster.nodes):
        yield f"spec.nodes.min = {spec.nodes.min}: there are {len(cluster.nodes)} nodes now, so the job waits"
    for key in spec.topology.keys if spec.topology is not None else ():
        if not any(key in node.labels for node in cluster.nodes):
            yield f"spec.topology.keys: no node has label {key} now"
    priority = (spec.template.spec.model_extra or {}).get("priorityClassName")
    if priority and all(one.name != priority for one in cluster.priority_classes):
        field = "spec.template.spec.priorityClassName"
        yield f"{field} = {priority}: there is no such PriorityClass, so no pod can be made"


def _holds(job: TrainingJob, directory: str) -> bool:
    """Whether the trainer mounts something at a directory, or above it."""
    paths = (str(one.get("mountPath", "")) for one in mounts(job.spec.template.spec.trainer.model_extra))
    return any(path and f"{directory}/".startswith(f"{path.rstrip('/')}/") for path in paths)
