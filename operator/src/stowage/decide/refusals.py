"""How a pod tells that our extender kept it from a node."""

from __future__ import annotations

from typing import Final

REFUSED: Final = "reserved by plan"
"""The extender's words in the message of condition PodScheduled, followed by the name of the plan."""
