"""What all parts of Kubernetes objects have in common when they are read."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

Time = Annotated[datetime, Meta(tz=True)]


class Part(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """Base of all: camelCase names outside, absent fields left out when encoded."""
