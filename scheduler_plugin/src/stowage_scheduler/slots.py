"""Slots: places kept for pods of a class, the contract between a plan and the extender.

A class is what makes replicas interchangeable: same controller, same template revision, same requests.
A slot of a StatefulSet is for one pod name as well, for its replicas are not interchangeable; nor are pods of a gang
with ranks, or pods with
volumes of their own (generic ephemeral ones), which may be bound to a zone before the pod is.
"""

from __future__ import annotations

import hashlib

from msgspec import Struct

from stowage_scheduler.cluster import GPU_MILLI, OF_VOLUMES, Pod
from stowage_scheduler.gangs import rank_of

_LOOKED_UP = (*OF_VOLUMES, GPU_MILLI)


class SlotClass(Struct, frozen=True, gc=False):
    """Which pods may take a slot: `requests` is a digest of the scheduling requests."""

    controller_uid: str
    revision: str
    requests: str
    pod_name: str = ""


class Slot(Struct, frozen=True):
    """A place for one pod of `slot_class` on `node`.

    `standing` is the number of pods of the class that ran on the node when the plan was made and stay
    there: the slots of one class and node are filled when more than `standing` run there. Whoever writes
    the plan counts it, for it depends on pods that never move too.

    `after` is for the slot of a swap: ids of the steps whose pods must have left before the slot opens. All
    other slots open with their step, which has an `after` of its own.
    """

    id: str
    slot_class: SlotClass
    node: str
    standing: int = 0
    after: tuple[str, ...] = ()


def slot_class(pod: Pod) -> SlotClass:
    """The class of a pod. A pod without a controller is a class of its own.

    What volumes take does not count, nor thousandths of GPUs: that is not in the pod, and the extender, which knows
    pods alone, has to find the same class.
    """
    requests = sorted(item for item in pod.requests.items() if not item[0].startswith(_LOOKED_UP))
    text = ",".join(f"{name}={amount}" for name, amount in requests)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    if pod.owner is None:
        return SlotClass(pod.uid, "", digest, pod.name)
    own = pod.owner.kind == "StatefulSet" or any(claim.ephemeral for claim in pod.claims)
    # neighbours in a gang stand close only if each gets its own place; no pod of a gang is moved, so no replacement,
    # which has another name, ever comes for it
    own = own or (pod.gang is not None and rank_of(pod) is not None)
    return SlotClass(pod.owner.uid, pod.template_hash, digest, pod.name if own else "")
