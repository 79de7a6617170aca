"""One rank's part in agreeing on the step of a checkpoint: what it has seen, and what it has answered. No I/O.

The coordinator offers a step ahead of all ranks. A rank that sees the offer before it has answered for that step takes
part; it then answers nothing for that step or a later one until the offer is confirmed, which happens once all ranks
that ask have seen it in time. So ranks that ask for the same steps say yes at the same one. A rank that saw the offer
too late says so, and another step is offered. Only a rank that waits for `HOLD_SECONDS` in vain answers alone: with no.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

HOLD_SECONDS = 10.0
"""Longer than the coordinator needs to find out that a supervisor is gone, for then the epoch ends anyway."""
MAX_PLAN_BYTES = 4096


@dataclass(frozen=True)
class Plan:
    """What the supervisor wrote last; the fields are those of `messages.SaveAt`."""

    interval_seconds: float = 0.0
    request: int = 0
    step: int = -1
    confirmed: bool = False
    ends: bool = False

    def text(self) -> str:
        """As it is written."""
        return json.dumps(
            {
                "intervalSeconds": self.interval_seconds,
                "request": self.request,
                "step": self.step,
                "confirmed": self.confirmed,
                "ends": self.ends,
            }
        )


NO_PLAN = Plan()


def plan_of(text: str | bytes) -> Plan:
    """What stands in the file; nothing of it for what is no plan."""
    try:
        found = json.loads(text)
        interval = float(found["intervalSeconds"])
        plan = Plan(interval, int(found["request"]), int(found["step"]), bool(found["confirmed"]), bool(found["ends"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return NO_PLAN
    return plan if math.isfinite(interval) else NO_PLAN


class Agreement:
    """What one rank has seen and answered.

    Attributes:
        asked: the last step that was answered for; -1: none.
        seen: number of the last offer that was seen.
        is_late: that offer is not taken part in.
    """

    def __init__(self) -> None:
        self.asked = -1
        self.seen = 0
        self.is_late = False
        self._made = 0

    def answer(self, plan: Plan, step: int) -> bool | None:
        """Whether a checkpoint is due at this step, once for each offer; None: wait, and ask with a newer plan."""
        reached = self._reached(plan, step)
        if not reached:
            return reached
        if self._made == plan.request:
            return False
        self._made = plan.request
        return True

    def ends(self, plan: Plan, step: int) -> bool | None:
        """Whether the processes end at this step, from the agreed one on; None as for `answer`."""
        reached = self._reached(plan, step)
        return plan.ends if reached else reached

    def give_up(self, step: int) -> None:
        """The confirmation did not come: the answer is no."""
        self.is_late = True
        self.asked = max(self.asked, step)

    def _reached(self, plan: Plan, step: int) -> bool | None:
        if plan.request != self.seen:
            self.seen = plan.request
            self.is_late = plan.request != 0 and self.asked >= plan.step
        if plan.request == 0 or self.is_late or step < plan.step:
            self.asked = max(self.asked, step)
            return False
        if not plan.confirmed:
            return None
        self.asked = max(self.asked, step)
        return True
