"""How a pod tells that it was kept from a node for a plan."""

from __future__ import annotations

from typing import Final

REFUSED: Final = "reserved by plan"
"""The extender's words in the message of condition PodScheduled, followed by the name of the plan."""
UNTOLERATED: Final = "untolerated taint"
"""kube-scheduler's words for a node kept by a taint; since 1.36 they do not say by which."""
