"""Pods by the name in one of their labels: those of a job, or of a service, without looking at all others."""

from __future__ import annotations

from collections.abc import Mapping

from stowage_scheduler.cluster import Pod


class LabelledPods:
    """Pods by `namespace/NAME`, where NAME is the value of a label.

    Args:
        pods: of the store, by `namespace/name`; read when it is asked, never kept.
        label: its key.
    """

    def __init__(self, pods: Mapping[str, Pod], label: str) -> None:
        self._pods = pods
        self._label = label
        self._keys_of: dict[str, set[str]] = {}
        self._name_of: dict[str, str] = {}  # by pod: known still when the pod is gone

    def changed(self, key: str) -> tuple[str, ...]:
        """A pod came, changed or is gone; whom it belongs to or belonged to."""
        pod = self._pods.get(key)
        name = pod.labels.get(self._label) if pod is not None else None
        now = f"{pod.namespace}/{name}" if pod is not None and name is not None else None
        before = self._name_of.get(key)
        if before is not None and before != now:
            drop(self._keys_of, before, key)
            del self._name_of[key]
        if now is not None and before != now:
            self._name_of[key] = now
            self._keys_of.setdefault(now, set()).add(key)
        return tuple(sorted({one for one in (before, now) if one is not None}))

    def of(self, name: str) -> tuple[Pod, ...]:
        """The pods with that name in their label, whoever owns them, by their own names."""
        found = (self._pods.get(key) for key in sorted(self._keys_of.get(name, ())))
        return tuple(pod for pod in found if pod is not None)

    def names(self) -> tuple[str, ...]:
        """All names that a pod has."""
        return tuple(sorted(self._keys_of))


def drop(table: dict[str, set[str]], key: str, one: str) -> None:
    """Take one out of a set, and the set away when it is empty."""
    table[key].discard(one)
    if not table[key]:
        del table[key]
