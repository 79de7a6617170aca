"""A placement: how many pods of each class stand on each node, and how good that is."""

from __future__ import annotations

from stowage_scheduler.cluster import HostPort
from stowage_scheduler.devices.limits import DeviceLimits, Need
from stowage_scheduler.kube.matching import port_conflict
from stowage_scheduler.problem import PodClass, Problem, WholeGang
from stowage_scheduler.relations import NOBODY, OUTSIDE, Relation, Tallies, Tally, counted

Score = tuple[int, ...]


class Placement:
    """Counts per class and node, with the room left kept up to date.

    `counts[c]` maps node to pods and holds no zeros; `room[n][r]` is what is left; `on_node[n]` maps
    class to pods. `placed_of[c]`, `leaving_of[c]` (running pods that do not stay) and `placed_at[priority]` (fixed pods
    included) are kept up to date, for they are asked for with every neighbourhood. Mutable: it is the state of one
    search, never shared.
    """

    def __init__(self, problem: Problem) -> None:
        """Start from what runs now."""
        self.problem = problem
        self.counts: list[dict[int, int]] = [{} for _ in problem.classes]
        self.room = [list(free) for free in problem.free]
        self.on_node: list[dict[int, int]] = [{} for _ in problem.nodes]
        self.placed_of = [0] * len(problem.classes)
        self.leaving_of = [0] * len(problem.classes)
        self.placed_at: dict[int, int] = dict(problem.fixed)
        self.tallies = Tallies(problem)
        self.touched: set[int] = set()  # nodes that are not known to hold on their devices, where those matter
        self.room_on_devices: dict[
            int, dict[tuple[bool, Need], bool]
        ] = {}  # by node, for one more pod; as far as asked
        for pod_class in problem.classes:
            if pod_class.running:
                self._run(pod_class)

    def _run(self, pod_class: PodClass) -> None:
        """Add the running pods of a class, of which there are none yet: what `add` does, for many at once."""
        index, running = pod_class.index, pod_class.running
        asked = [(resource, amount) for resource, amount in enumerate(pod_class.requests) if amount]
        self.counts[index] = dict(running)
        for node, count in running.items():
            self.on_node[node][index] = count
            room = self.room[node]
            for resource, amount in asked:
                room[resource] -= amount * count
        self.placed_of[index] = pod_class.running_total
        self.placed_at[pod_class.priority] = self.placed_at.get(pod_class.priority, 0) + pod_class.running_total
        if self.problem.roles_of[index]:
            for node, count in running.items():
                self.tallies.add(pod_class, node, count)
        if self.problem.device_limits:
            self.touched.update(running)

    def within(self, problem: Problem) -> Placement:
        """The same counts in another problem with the same nodes and as many classes, with its limits and tiers."""
        twin = self.copy()
        twin.problem = problem
        twin.tallies.problem = problem
        twin.placed_at = dict(problem.fixed)
        for pod_class in problem.classes:
            priority = pod_class.priority
            twin.placed_at[priority] = twin.placed_at.get(priority, 0) + self.placed_of[pod_class.index]
        return twin

    def copy(self) -> Placement:
        """An independent copy."""
        twin = Placement.__new__(Placement)
        twin.problem = self.problem
        twin.counts = [dict(where) for where in self.counts]
        twin.room = [list(room) for room in self.room]
        twin.on_node = [dict(held) for held in self.on_node]
        twin.placed_of = list(self.placed_of)
        twin.leaving_of = list(self.leaving_of)
        twin.placed_at = dict(self.placed_at)
        twin.tallies = self.tallies.copy()
        twin.touched = set(self.touched)
        twin.room_on_devices = {}
        return twin

    def add(self, pod_class: PodClass, node: int, count: int) -> None:
        """Put `count` more pods (fewer, when negative) of a class on a node."""
        if not count:
            return
        total = self.counts[pod_class.index].get(node, 0) + count
        if total:
            self.counts[pod_class.index][node] = total
            self.on_node[node][pod_class.index] = total
        else:
            self.counts[pod_class.index].pop(node)
            self.on_node[node].pop(pod_class.index)
        self.tallies.add(pod_class, node, count)
        if self.problem.device_limits:
            self.touched.add(node)
            self.room_on_devices.pop(node, None)
        self.placed_of[pod_class.index] += count
        if runs := pod_class.running.get(node, 0):
            self.leaving_of[pod_class.index] += max(0, runs - total) - max(0, runs - total + count)
        self.placed_at[pod_class.priority] = self.placed_at.get(pod_class.priority, 0) + count
        room = self.room[node]
        for resource, amount in enumerate(pod_class.requests):
            room[resource] -= amount * count

    def replace(self, node: int, held: dict[int, int]) -> None:
        """Make `held` (class to pods) all that stands on a node."""
        for index in set(self.on_node[node]) | set(held):
            change = held.get(index, 0) - self.on_node[node].get(index, 0)
            self.add(self.problem.classes[index], node, change)

    def halved_gangs(self) -> list[WholeGang]:
        """Gangs with neither all nor none of their places."""
        return [gang for gang in self.problem.gangs if not self._is_whole(gang)]

    def _is_whole(self, gang: WholeGang) -> bool:
        placed = [self.placed_of[index] for index in gang.classes]
        if not any(placed) or gang.need is not None:
            return sum(placed) == 0 or sum(placed) >= (gang.need or 0)
        return placed == [self.problem.classes[index].total for index in gang.classes]

    def without_halved_gangs(self) -> dict[int, dict[int, int]]:
        """Nodes with pods of such gangs, and what (class to pods) would be left there without those."""
        members = {index for gang in self.halved_gangs() for index in gang.classes}
        nodes = sorted({node for index in members for node in self.counts[index]})
        return {
            node: {index: count for index, count in self.on_node[node].items() if index not in members}
            for node in nodes
        }

    def placed(self, pod_class: PodClass) -> int:
        """Pods of a class that have a place."""
        return self.placed_of[pod_class.index]

    def unplaced(self, pod_class: PodClass) -> int:
        """Pods of a class without a place."""
        return pod_class.total - self.placed(pod_class)

    def taken_ports(self, node: int) -> set[HostPort]:
        """Host ports in use on a node."""
        taken = set(self.problem.ports[node]) if self.problem.ports else set()
        for index in self.on_node[node]:
            taken.update(self.problem.classes[index].ports)
        return taken

    def clashes(self, pod_class: PodClass, node: int) -> bool:
        """Whether one more pod of a class finds a host port taken on a node, or no device that has room."""
        if pod_class.ports and port_conflict(pod_class.ports, self.taken_ports(node)) is not None:
            return True
        for limits in self.problem.device_limits:
            if pod_class.index in limits.needs and not self._has_devices(limits, pod_class, node):
                return True
        return False

    def _has_devices(self, limits: DeviceLimits, pod_class: PodClass, node: int) -> bool:
        held = self.on_node[node]
        if node in pod_class.running:
            return limits.hold(node, {**held, pod_class.index: held.get(pod_class.index, 0) + 1})
        need = limits is self.problem.islands, limits.needs[pod_class.index]  # who needs the same shares the answer
        answers = self.room_on_devices.setdefault(node, {})
        if need not in answers:
            answers[need] = limits.hold(node, {**held, pod_class.index: held.get(pod_class.index, 0) + 1})
        return answers[need]

    def leaving(self, pod_class: PodClass) -> int:
        """Running pods of a class that do not stay on their node."""
        return self.leaving_of[pod_class.index]

    def lost(self, pod_class: PodClass) -> int:
        """Running pods of a class that end without a place."""
        return max(0, pod_class.running_total - self.placed(pod_class))

    def placed_by_priority(self) -> dict[int, int]:
        """For each priority, how many pods of that priority or higher have a place."""
        result: dict[int, int] = {}
        total = 0
        for priority in self.problem.priorities:
            total += self.placed_at.get(priority, 0)
            result[priority] = total
        return result

    def disruption(self) -> tuple[int, int]:
        """Pods that lose their place, and the cost of all moves in restart seconds."""
        lost = moves = 0
        for index, leaving in enumerate(self.leaving_of):
            if leaving:
                pod_class = self.problem.classes[index]
                gone = self.lost(pod_class)
                lost += gone
                moves += (leaving - gone) * pod_class.move_cost
        return lost, moves

    def disrupted(self) -> int:
        """Running pods that do not stay on their node: moves and evictions together."""
        return sum(self.leaving_of)

    def within_limits(self) -> bool:
        """Whether the limits that span nodes hold: whole gangs, relations, the cap on moves, disruption budgets."""
        if self.halved_gangs() or not self.relations_hold() or not self.devices_hold():
            return False
        limit = self.problem.max_moves
        if limit is not None and self.disrupted() > limit:
            return False
        for index, budget in enumerate(self.problem.budgets):
            covered = self.problem.covered_by[index]
            lost = sum(self.lost(c) for c in covered)
            leaving = sum(self.leaving(c) for c in covered)
            if lost > budget.allowed or (leaving > lost and lost >= budget.allowed):
                return False
        return True

    def devices_hold(self) -> bool:
        """Whether whoever comes to a node fits on its GPU devices."""
        if self.problem.device_limits:
            if not all(limits.hold(n, self.on_node[n]) for limits in self.problem.device_limits for n in self.touched):
                return False
            self.touched.clear()
        return True

    def relations_hold(self) -> bool:
        """Whether every rule between pods holds; one that held when last asked is asked again if its pods moved."""
        if not all(self.holds(number) for number in self.tallies.changed):
            return False
        self.tallies.changed.clear()
        return True

    def holds(self, number: int) -> bool:
        """Whether one rule between pods holds."""
        relation = self.problem.relations[number]
        return relation.holds(self.tallies.of[number], self.arrivals(relation))

    def arrivals(self, relation: Relation) -> dict[int, Tally]:
        """Pods that have the rule and come to a node where they do not run, by domain."""
        found: dict[int, Tally] = {}
        for index, role in relation.roles.items():
            if not role.obeys:
                continue
            running = self.problem.classes[index].running
            for node, count in self.counts[index].items():
                more = count - running.get(node, 0)
                domain = relation.domain_of[node]
                if more > 0 and domain != OUTSIDE:
                    found[domain] = counted(found.get(domain, NOBODY), role, more)
        return found

    def score(self) -> Score:
        """The objective, lexicographic, higher is better: tiers by priority, then least disruption."""
        lost, moves = self.disruption()
        return (*self.placed_by_priority().values(), -lost, -moves)
