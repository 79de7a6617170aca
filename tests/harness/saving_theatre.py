"""The miniature job with ranks that train: they ask whether a checkpoint is due, over supervisors and coordinator."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.training_model import Theatre
from stowage_worker import membership
from stowage_worker.agreement import NO_PLAN, Agreement, Plan
from stowage_worker.messages import Beat, Begin, Leave, MayLeave, RankProgress, SaveAt

RANKS_PER_SEAT = 2


@dataclass
class ModelRank:
    """One rank; `answers` by step, for the asserts."""

    rank: int
    stride: int
    asks: bool = True
    step: int = -1
    checkpoint_step: int = -1
    still_seconds: float = 0.0
    agreement: Agreement = field(default_factory=Agreement)
    answers: dict[int, bool] = field(default_factory=dict)
    ended_at: int | None = None

    def progress(self, step_seconds: float | None) -> RankProgress:
        one = self.agreement
        return RankProgress(
            self.rank,
            step=self.step,
            phase="Training",
            step_seconds=step_seconds,
            checkpoint_step=self.checkpoint_step,
            since_step_seconds=self.still_seconds,
            asked_step=one.asked,
            request=one.seen,
            is_late=one.is_late,
        )


class SavingTheatre(Theatre):
    """Plays operations one by one; ranks are at most `skew` steps apart, as collective operations keep them."""

    def __init__(
        self,
        seats: tuple[str, ...],
        *,
        checkpoint_seconds: float = 0.0,
        step_seconds: float | None = None,
        stride: int = 1,
        skew: int = 1,
        askers: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(seats)
        self.step_seconds = step_seconds
        self.skew = skew * stride
        self.checkpoint_seconds = checkpoint_seconds
        self.plans: dict[str, Plan] = {}
        self.freed: list[tuple[int, MayLeave]] = []
        self.ranks = [
            ModelRank(rank, stride, asks=askers is None or rank in askers)
            for rank in range(len(seats) * RANKS_PER_SEAT)
        ]
        for seat in seats:
            self.connect(seat)
        self.command_next(seats)
        self.deliver_all()

    def command(self, begin: Begin) -> None:
        self.begin = begin = Begin(**{**vars(begin), "checkpoint_seconds": self.checkpoint_seconds})
        super().command(begin)

    def downward(self, seat: str) -> None:
        down = self.supervisors[seat].down
        if down and isinstance(down[0], SaveAt) and down[0].epoch == self.supervisors[seat].runs:
            one = down[0]
            self.plans[seat] = Plan(one.checkpoint_seconds, one.request, one.step, one.confirmed, one.ends)
        super().downward(seat)

    def apply(self, step: membership.Step) -> None:
        super().apply(step)
        self.freed += [(link, message) for link, message in step.sends if isinstance(message, MayLeave)]

    def train(self, rank: int) -> None:
        """A rank does its next step, if the others let it, and asks; or asks again, where it was told to wait."""
        one = self.ranks[rank]
        step = one.step + one.stride
        others = [other.step for other in self.ranks if other is not one]
        if one.ended_at is not None or step - min(others) > self.skew:
            return
        if not one.asks:
            one.step = step
            return
        plan = self.plans.get(self.seats[rank // RANKS_PER_SEAT], NO_PLAN)
        answer = one.agreement.answer(plan, step)
        if answer is None:
            return
        one.step = step
        one.answers[step] = answer
        if answer and one.agreement.ends(plan, step):
            one.ended_at = step

    def save(self) -> None:
        """The first rank tells of the checkpoint of the last step at which all ranks said yes."""
        due = self.due()
        self.ranks[0].checkpoint_step = max(set.intersection(*due), default=-1) if due else -1

    def beat(self, seat: str) -> None:
        """A supervisor tells its ranks' progress."""
        one = self.supervisors[seat]
        first = self.seats.index(seat) * RANKS_PER_SEAT
        ranks = self.ranks[first : first + RANKS_PER_SEAT]
        self.say(one, Beat(one.runs, tuple(rank.progress(self.step_seconds) for rank in ranks)))

    def leave(self, seat: str, seconds: float = 20.0) -> int:
        """The pod of a seat is about to be stopped; the number of the connection that says so."""
        link = self._number()
        self.apply(
            membership.leaves(self.state, link, Leave("", seat, self.supervisors[seat].pod, seconds), self.clock())
        )
        return link

    def go_on(self, rounds: int = 1, *, saves: bool = True) -> None:
        """Everybody gets on: steps, beats, messages, a quarter of a second."""
        for _ in range(rounds):
            self.deliver_all()
            for rank in range(len(self.ranks)):
                self.train(rank)
            if saves:
                self.save()
            for seat in self.seats:
                self.beat(seat)
            self.deliver_all()
            self.pass_time(0.25)
            self.deliver_all()

    def due(self) -> list[set[int]]:
        """The steps at which each rank that asks said yes."""
        return [{step for step, answer in one.answers.items() if answer} for one in self.ranks if one.asks]

    def assert_agreed(self) -> None:
        """No two ranks answered differently for the same step."""
        for step in {step for one in self.ranks for step in one.answers}:
            said = {one.answers[step] for one in self.ranks if step in one.answers}
            assert len(said) == 1, f"ranks disagree at step {step}"
