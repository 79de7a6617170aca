"""Pods, as custom resources name them."""

from __future__ import annotations

from typing import Self

from stowage.api.fields import NamespaceName, ResourceName, Uid
from stowage.api.resource import SpecFields
from stowage_scheduler.packing import PodRef


class PodReference(SpecFields):
    """One pod: the name users know and the UID that makes it unique in time."""

    namespace: NamespaceName
    """Namespace of the pod."""
    name: ResourceName
    """Name of the pod."""
    uid: Uid
    """UID of the pod."""

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @classmethod
    def of(cls, pod: PodRef) -> Self:
        """The reference to a pod of a packing."""
        return cls(namespace=pod.namespace, name=pod.name, uid=pod.uid)

    def to_fact(self) -> PodRef:
        """The reference as the packer knows it."""
        return PodRef(self.namespace, self.name, self.uid)
