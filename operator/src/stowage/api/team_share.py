"""What a team holds of a policy's nodes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stowage.api.fields import MAX_COUNT, Decimal, Integer, LabelKey, NamespaceName
from stowage.api.resource import StatusFields


class TeamShare(StatusFields):
    """The dominant share of one team, as its running pods make it."""

    name: NamespaceName
    """Name of the team."""
    share: Decimal
    """Largest share, 0 to 1, that it holds of any resource of the policy's nodes; not divided by its weight."""
    resource: LabelKey | None = None
    """Which resource that is; absent while the team holds nothing."""
    pods: Annotated[Integer, Field(ge=0, le=MAX_COUNT)] = 0
    """Pods of the team on the policy's nodes."""
