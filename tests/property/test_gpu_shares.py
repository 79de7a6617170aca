"""GPU shares against brute force over devices: what fits, the best plan, and every order of its steps."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from ortools.sat.python import cp_model

from harness.facts import OPTIONS, packed, snapshot
from harness.facts import node as make_node
from harness.facts import pod as make_pod
from stowage_scheduler.build import build
from stowage_scheduler.cluster import GPU_MILLI, Gang, GpuShare, Node, Pod, Snapshot
from stowage_scheduler.devices.fit import Standing, fits
from stowage_scheduler.devices.limits import with_gpu_milli
from stowage_scheduler.options import Budget
from stowage_scheduler.packing import Packing
from stowage_scheduler.placement import Placement
from stowage_scheduler.rules import RULES, Outcome
from stowage_scheduler.rules.gpu_shares import find_devices
from stowage_scheduler.solve.model import CountModel

GPU = "nvidia.com/gpu"
_MOST_PODS = 4  # each more makes brute force three times as long
SIZES = st.sampled_from([200, 300, 500, 600, 700])
Loads = tuple[int, ...]


def _put(devices: Loads, shares: Sequence[int], full: int = 1000) -> Iterator[Loads]:
    """Every way to put shares on devices, as loads."""
    for places in product(range(len(devices)), repeat=len(shares)):
        loads = list(devices)
        for place, share in zip(places, shares, strict=True):
            loads[place] += share
        if all(before == after or after <= full for before, after in zip(devices, loads, strict=True)):
            yield tuple(loads)


@st.composite
def standings(draw: st.DrawFn, *, unknown: int) -> tuple[Standing, int, tuple[int, ...]]:
    """A node of up to four devices, with newcomers: whole devices and shares."""
    devices = draw(st.integers(1, 4))
    known = draw(st.lists(SIZES, max_size=devices))
    loose = sorted(draw(st.lists(SIZES, max_size=unknown)))
    whole = draw(st.integers(0, devices - len(known)))
    standing = Standing(devices, (1000,), tuple((k,) for k in sorted(known)), tuple((u,) for u in loose), whole)
    return standing, draw(st.integers(0, 2)), tuple(sorted(draw(st.lists(SIZES, max_size=4))))


def _newcomers_fit(loads: Loads, whole: int, shares: Sequence[int]) -> bool:
    """Whether newcomers fit on devices with these loads."""
    return any(sum(load == 0 for load in after) >= whole for after in _put(loads, shares))


@settings(max_examples=300)
@given(standings(unknown=0))
def test_with_known_devices_the_fit_is_exact(case: tuple[Standing, int, tuple[int, ...]]) -> None:
    standing, whole, shares = case
    loads = (*(load for (load,) in standing.known), *[0] * standing.empty)
    assert fits(standing, whole, tuple((share,) for share in shares)) == _newcomers_fit(loads, whole, shares)


@settings(max_examples=300)
@given(standings(unknown=3))
def test_what_fits_does_so_wherever_shares_on_unknown_devices_are(case: tuple[Standing, int, tuple[int, ...]]) -> None:
    standing, whole, shares = case
    if fits(standing, whole, tuple((share,) for share in shares)):
        loads = (*(load for (load,) in standing.known), *[0] * standing.empty)
        for really in _put(loads, [share for (share,) in standing.unknown]):
            assert _newcomers_fit(really, whole, shares)


@settings(max_examples=150)
@given(st.lists(st.tuples(SIZES, st.sampled_from([0, 100, 400, 800])), max_size=6), st.integers(1, 3))
def test_in_two_measures_model_and_check_find_devices_just_where_there_are_some(
    shares: list[tuple[int, int]], devices: int
) -> None:
    places = product(range(devices), repeat=len(shares))
    there_are = any(
        all(
            sum(s[m] for s, at in zip(shares, spots, strict=True) if at == d) <= 1000
            for d in range(devices)
            for m in (0, 1)
        )
        for spots in places
    )
    assert fits(Standing(devices, (1000, 1000)), 0, tuple(sorted(shares))) == there_are
    told = [{"a": a, "b": b} for a, b in sorted(shares)]
    assert find_devices(told, [{"a": 1000, "b": 1000}] * devices, set()) == there_are


@pytest.mark.parametrize("seed", range(12))
def test_eight_devices_that_can_be_filled_to_the_brim_are_filled(seed: int) -> None:
    chance = random.Random(seed)
    shares = []
    for _ in range(8):
        left = 1000
        while left:
            part = min(left, chance.choice([130, 170, 210, 230, 270, 310, 330, 370, 410, 470, 530]))
            part = left if left - part < 100 else part
            shares.append(part)
            left -= part
    assert fits(Standing(8, (1000,)), 0, tuple(sorted((share,) for share in shares)))
    assert find_devices([{"a": share} for share in sorted(shares)], [{"a": 1000}] * 8, set())


def _share(milli: int, device: int | None = None) -> GpuShare:
    return GpuShare(((GPU_MILLI, milli),), device)


@st.composite
def clusters(draw: st.DrawFn) -> Snapshot:
    """Two small nodes and up to five pods; some run where they fit, on a device that is told or not."""
    nodes = [
        make_node(f"n{number}", 9000, extra={GPU: draw(st.integers(1, 3))}) for number in range(draw(st.integers(1, 2)))
    ]
    pods: list[Pod] = []
    for number in range(draw(st.integers(1, 4))):
        whole = draw(st.integers(0, 3)) == 0
        extra = {GPU: draw(st.integers(1, 2))} if whole else {}
        gang = Gang(f"g{number}", 2) if draw(st.integers(0, 5)) == 0 else None
        milli, priority = draw(SIZES), draw(st.integers(0, 1))
        for replica in range(2 if gang else draw(st.integers(1, 2))):
            pod = make_pod(f"p{number}-{replica}", 1, extra=extra, priority=priority, gang=gang)
            pod = pod if whole else replace(pod, gpu_share=_share(milli))
            pods.append(pod if gang else _standing(draw, pod, nodes, pods))
        if len(pods) >= _MOST_PODS:
            break
    return snapshot(*nodes, *pods)


def _standing(draw: st.DrawFn, pod: Pod, nodes: Sequence[Node], others: Sequence[Pod]) -> Pod:
    """The pod on a node that has room for it, or waiting."""
    fitting = []
    for node in nodes:
        residents = [other for other in others if other.node == node.name]
        devices = node.allocatable[GPU]
        if pod.gpu_share is None:
            if _loads(devices, [*residents, replace(pod, node=node.name)]):
                fitting.append((node.name, None))
            continue
        milli = dict(pod.gpu_share.amounts)[GPU_MILLI]
        fitting += [
            (node.name, share)
            for share in (_share(milli), *(_share(milli, device) for device in range(devices)))
            if _loads(devices, [*residents, replace(pod, node=node.name, gpu_share=share)])
        ]
    if not fitting or draw(st.integers(0, 2)) == 0:
        return pod
    name, share = draw(st.sampled_from(fitting))
    return replace(pod, node=name, gpu_share=share, phase="Running", ready=True)


def _loads(devices: int, residents: Sequence[Pod]) -> list[Loads]:
    """Every way in which pods may stand on the devices of their node, as loads: whole devices are full."""
    fixed = [0] * devices
    free: list[int] = []
    whole = 0
    for pod in residents:
        if pod.gpu_share is None:
            whole += pod.requests.get(GPU, 0)
        elif pod.gpu_share.device is not None:
            fixed[pod.gpu_share.device] += dict(pod.gpu_share.amounts)[GPU_MILLI]
        else:
            free.append(dict(pod.gpu_share.amounts)[GPU_MILLI])
    if max(fixed) > 1000:
        return []
    return [loads for loads in _put(tuple(fixed), free) if sum(load == 0 for load in loads) >= whole]


def _changes_places(cluster: Snapshot, after: dict[str, str]) -> bool:
    """Whether a pod leaves a node to which its like comes: to the packer both are one, so that nobody moves for it."""
    kinds = {pod.uid: (pod.owner, pod.gang, None if pod.node is None else _device(pod)) for pod in cluster.pods}
    left = {(kinds[pod.uid], pod.node) for pod in cluster.pods if pod.node and after.get(pod.uid) != pod.node}
    came = {(kinds[pod.uid], after.get(pod.uid)) for pod in cluster.pods if after.get(pod.uid) != pod.node}
    return not left.isdisjoint(came)


def _device(pod: Pod) -> int | None:
    return None if pod.gpu_share is None else pod.gpu_share.device


def _ends(cluster: Snapshot) -> Iterator[dict[str, str]]:
    """Every end that the rules allow."""
    facts = with_gpu_milli(cluster)
    for nodes in product([None, *(node.name for node in cluster.nodes)], repeat=len(cluster.pods)):
        after = {pod.uid: node for pod, node in zip(cluster.pods, nodes, strict=True) if node is not None}
        if _changes_places(cluster, after):
            continue
        outcome = Outcome(facts, OPTIONS, after)
        if not any(True for rule in RULES for _ in rule.check(outcome)):
            yield after


def _tiers(cluster: Snapshot, after: dict[str, str]) -> tuple[int, ...]:
    priorities = sorted({pod.priority for pod in cluster.pods}, reverse=True)
    placed = [pod.priority for pod in cluster.pods if pod.uid in after]
    return tuple(sum(one >= priority for one in placed) for priority in priorities)


@settings(max_examples=60)
@given(clusters())
def test_the_plan_is_the_best_that_the_rules_allow(cluster: Snapshot) -> None:
    packing = packed(cluster, budget=Budget(deterministic_units=1.0, workers=2))
    assert packing.faults == ()
    best = max(_tiers(cluster, after) for after in _ends(cluster))
    assert tuple(packing.placed.values()) == best
    assert all(bound >= count for bound, count in zip(packing.bound.values(), best, strict=True))


@settings(max_examples=300)
@given(clusters(), st.data())
def test_model_placement_and_rules_agree_on_every_end(cluster: Snapshot, data: st.DataObject) -> None:
    """One end is drawn; the model, in which its counts are fixed, the placement and the checks say the same of it."""
    facts = with_gpu_milli(cluster)
    problem = build(facts, OPTIONS).problem
    names = [None, *(node.name for node in cluster.nodes)]
    after = {
        pod.uid: node for pod in cluster.pods if (node := data.draw(st.sampled_from(names), label=pod.name)) is not None
    }
    assume(not _changes_places(cluster, after))
    placement = Placement(problem)
    held: dict[tuple[int, int], int] = {}
    for pod_class in problem.classes:
        uids = [*pod_class.pending_uids, *(uid for some in pod_class.running_uids.values() for uid in some)]
        for uid in uids:
            if uid in after:
                key = pod_class.index, problem.nodes.index(after[uid])
                held[key] = held.get(key, 0) + 1
    for node in range(len(problem.nodes)):
        placement.replace(node, {index: count for (index, where), count in held.items() if where == node})
    fair = all(left >= 0 for room in placement.room for left in room) and placement.within_limits()
    checks = [rule.check(Outcome(facts, OPTIONS, after)) for rule in RULES]
    assert fair == (not any(True for violations in checks for _ in violations))
    start = Placement(problem)
    model = CountModel(start, range(len(problem.nodes)), range(len(problem.classes)), RULES)
    for key, variable in model.count.items():
        model.cp.add(variable == held.get(key, 0))
    modelled = all(key in model.count for key in held)  # else there is no room for that many
    assert modelled or not fair
    if modelled:
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        assert (solver.solve(model.cp) == cp_model.OPTIMAL) == fair


@settings(max_examples=100)
@given(clusters(), st.randoms(use_true_random=False))
def test_newcomers_keep_their_device_in_every_order_of_the_steps(cluster: Snapshot, choice: random.Random) -> None:
    packing = packed(cluster, budget=Budget(deterministic_units=0.3, workers=2))
    moments = list(_replayed(cluster, packing, choice))
    pods = {pod.uid: pod for pod in cluster.pods}
    target = {entry.pod.uid: entry.node for entry in packing.assignments}
    for node in cluster.nodes:
        coming = sorted(uid for uid, name in target.items() if name == node.name and pods[uid].node != name)
        if not coming:
            continue
        devices = node.allocatable[GPU]
        staying = [
            frozenset(uid for uid, name in where.items() if name == node.name and pods[uid].node == name)
            for where in moments
        ]
        present = [frozenset(where) & frozenset(coming) for where in moments]
        loose = sorted(
            uid
            for uid in staying[0]
            if (share := pods[uid].gpu_share) is not None and share.device is None and pods[uid].node == node.name
        )
        for spots in product(range(devices), repeat=len(loose)):
            known = dict(zip(loose, spots, strict=True))
            if _clean(devices, [_on(pods[uid], known.get(uid)) for uid in staying[0]]):
                assert _one_assignment_serves(devices, pods, coming, known, staying, present)


def _on(pod: Pod, device: int | None) -> Pod:
    if pod.gpu_share is None or device is None:
        return pod
    return replace(pod, gpu_share=GpuShare(pod.gpu_share.amounts, device))


def _clean(devices: int, residents: Sequence[Pod]) -> bool:
    return bool(_loads(devices, residents))


def _one_assignment_serves(
    devices: int,
    pods: dict[str, Pod],
    coming: Sequence[str],
    known: dict[str, int],
    staying: Sequence[frozenset[str]],
    present: Sequence[frozenset[str]],
) -> bool:
    shares = [uid for uid in coming if pods[uid].gpu_share is not None]
    for spots in product(range(devices), repeat=len(shares)):
        at = {**known, **dict(zip(shares, spots, strict=True))}
        if all(
            not here or _clean(devices, [_on(pods[uid], at.get(uid)) for uid in (*there, *here)])
            for there, here in zip(staying, present, strict=True)
        ):
            return True
    return False


def _replayed(cluster: Snapshot, packing: Packing, choice: random.Random) -> Iterator[dict[str, str]]:
    """Who stands where after each step, in an order that the edges allow; a slot is filled as soon as it is open."""
    steps = {step.id: step for step in packing.steps}
    target = {entry.pod.uid: entry.node for entry in packing.assignments}
    where = {pod.uid: pod.node for pod in cluster.pods if pod.node}
    yield dict(where)
    done: set[str] = set()
    homeless: list[str] = []
    opens_after = {step.pod.uid: set(s.after) for step in packing.steps for s in packing.slots if s.id == step.slot}
    while len(done) < len(steps):
        ready = sorted(i for i, step in steps.items() if i not in done and set(step.after) <= done)
        step = steps[choice.choice(ready)]
        done.add(step.id)
        where.pop(step.pod.uid, None)
        if step.slot is not None:
            homeless.append(step.pod.uid)
        for uid in list(homeless):
            if opens_after[uid] <= done:
                homeless.remove(uid)
                where[uid] = target[uid]
        yield dict(where)
