"""Whether a drain gets anywhere: what its plans achieved, who came back, and who is still on the way out."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec import Struct

from stowage.cli.drain_answer import DrainAnswer
from stowage_scheduler.cluster import Pod, Snapshot
from stowage_scheduler.movability import leaves_by_itself

MOST_IN_VAIN = 3  # plans after which as many pods have to leave as before
LONGEST_PAUSE_SECONDS = 30.0
MOST_NAMED = 5


class Sent(Struct, frozen=True):
    """What a plan sent away: the controllers (UIDs), the pods that stood on the nodes before, and when.

    `at` is in seconds since the epoch, as the API server wrote it; None while nobody knows.
    """

    owners: frozenset[str]
    before: frozenset[str]
    at: float | None = None


class Rounds:
    """Counts the plans of one drain that changed nothing; knows no clock."""

    def __init__(self) -> None:
        """Begin before the first plan."""
        self.in_vain = 0
        self._fewest: int | None = None
        self._ended = False

    def begin(self, leaving: int) -> None:
        """A plan is written for so many pods that have to leave."""
        self._fewest = leaving if self._fewest is None else min(self._fewest, leaving)
        self._ended = True

    def judge(self, leaving: int) -> float:
        """Say how many pods have to leave now, whenever another plan would be needed.

        Returns:
            Seconds to wait before that plan: more after each one in vain, none after progress.
        """
        before, ended, self._ended = self._fewest, self._ended, False
        if not ended or before is None or leaving < before:
            return 0.0
        self.in_vain += 1
        return min(LONGEST_PAUSE_SECONDS, 2.0**self.in_vain)

    @property
    def hopeless(self) -> bool:
        """Whether too many plans lowered nothing."""
        return self.in_vain > MOST_IN_VAIN


def sent_by(given: DrainAnswer, snapshot: Snapshot, at: float | None = None) -> Sent:
    """What the plan of an answer sends away from the drained nodes."""
    packing = given.packing
    moved = {one.pod.uid for one in packing.moves if one.source in given.nodes} if packing is not None else set()
    moved |= {one.pod.uid for one in packing.evictions} if packing is not None else set()
    there = [pod for pod in snapshot.pods if pod.node in given.nodes]
    owners = frozenset(pod.owner.uid for pod in there if pod.uid in moved and pod.owner is not None)
    return Sent(owners, frozenset(pod.uid for pod in there), at)


def came_back(snapshot: Snapshot, nodes: Collection[str], plans: Collection[Sent]) -> Pod | None:
    """A replacement that stands on a drained node, the first by name.

    It is of a controller whose pod a plan sent away, was made after that plan, and was not there before.
    """
    for pod in sorted(_on(snapshot, nodes), key=lambda one: one.key):
        if pod.owner is None or pod.leaving:
            continue
        for plan in plans:
            late = plan.at is None or pod.created_at >= int(plan.at)  # both are written in whole seconds
            if late and pod.owner.uid in plan.owners and pod.uid not in plan.before:
                return pod
    return None


def on_their_way_out(snapshot: Snapshot, nodes: Collection[str]) -> Mapping[str, Pod]:
    """Pods that still hold room on the nodes although they are going, or will go by themselves, by UID."""
    return {pod.uid: pod for pod in _on(snapshot, nodes) if pod.leaving or leaves_by_itself(pod)}


def names_of(pods: Collection[Pod]) -> str:
    """The first few names, and how many there are besides."""
    keys = sorted(pod.key for pod in pods)
    more = len(keys) - MOST_NAMED
    return ", ".join(keys[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _on(snapshot: Snapshot, nodes: Collection[str]) -> list[Pod]:
    return [pod for pod in snapshot.pods if pod.node in nodes and not pod.finished]
