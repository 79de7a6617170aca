"""What a TrainingJob does about failures: rules, first match wins, and how often it may start again."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, model_validator

from stowage.api.auto_duration import AutoDuration, auto_or_within
from stowage.api.bounded_pattern import LogPattern
from stowage.api.durations import Duration, within
from stowage.api.fields import ATOMIC, Integer, LabelKey, Message, NamespaceName, Switch, Unique, cel
from stowage.api.resource import SpecFields
from stowage.api.training_words import Action, Event

MAX_RULES: Final = 32
MAX_RESTARTS: Final = 50
"""The status remembers so many recoveries, and a budget is judged by what it remembers."""
_MOST: Final = 32

_SIGNAL_NUMBERS: Final = {
    "SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGILL": 4, "SIGTRAP": 5, "SIGABRT": 6, "SIGBUS": 7, "SIGFPE": 8,
    "SIGKILL": 9, "SIGUSR1": 10, "SIGSEGV": 11, "SIGUSR2": 12, "SIGPIPE": 13, "SIGALRM": 14, "SIGTERM": 15,
    "SIGXCPU": 24, "SIGXFSZ": 25, "SIGSYS": 31,
}  # fmt: skip


class SignalName(StrEnum):
    """Signals that end a process, by their names on Linux."""

    SIGHUP = "SIGHUP"
    SIGINT = "SIGINT"
    SIGQUIT = "SIGQUIT"
    SIGILL = "SIGILL"
    SIGTRAP = "SIGTRAP"
    SIGABRT = "SIGABRT"
    SIGBUS = "SIGBUS"
    SIGFPE = "SIGFPE"
    SIGKILL = "SIGKILL"
    SIGUSR1 = "SIGUSR1"
    SIGSEGV = "SIGSEGV"
    SIGUSR2 = "SIGUSR2"
    SIGPIPE = "SIGPIPE"
    SIGALRM = "SIGALRM"
    SIGTERM = "SIGTERM"
    SIGXCPU = "SIGXCPU"
    SIGXFSZ = "SIGXFSZ"
    SIGSYS = "SIGSYS"

    @property
    def number(self) -> int:
        """Its number on Linux."""
        return _SIGNAL_NUMBERS[self.value]


class PrometheusRule(SpecFields):
    """A rule that an admin has written into the operator's settings."""

    rule: NamespaceName
    """Name of the rule."""


class LogRule(SpecFields):
    """Lines of output that stand for an event."""

    name: NamespaceName
    """Name of the rule, shown where a line matched."""
    pattern: LogPattern
    """
    Regular expression, looked for in the first 1024 characters of each line of the trainer. Letters, sets, groups,
    alternatives and greedy repeats; refused when its search could take long on some lines.
    """


ConditionTypes = Annotated[tuple[LabelKey, ...], Field(max_length=_MOST), Unique()]
ErrorTypes = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")], ...],
    Field(max_length=_MOST),
    Unique(),
]

_MATCHES: Final = (
    "exitCodes", "signals", "errorTypes", "nodeConditions", "nodeTaints", "event", "promql", "log",
)  # fmt: skip
_ONE_RULE: Final = f"exactly one of {', '.join(_MATCHES)} must be given: write a rule for each"
_ONE_CEL: Final = f"[{', '.join(f'has(self.{name})' for name in _MATCHES)}].filter(given, given).size() == 1"
_AFTER_RULE: Final = "after must be given with event Hang only"
_HANG: Final = "Hang"


class Match(SpecFields):
    """What a rule speaks of: exactly one of these, `after` apart."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (_ONE_CEL, _ONE_RULE),
            (f"!has(self.after) || (has(self.event) && self.event == '{_HANG}')", _AFTER_RULE),
        )
    )

    exit_codes: (
        Annotated[tuple[Annotated[Integer, Field(ge=1, le=255)], ...], Field(min_length=1, max_length=_MOST), Unique()]
        | None
    ) = None
    """A process, or its container, ended with one of these codes."""
    signals: Annotated[tuple[SignalName, ...], Field(min_length=1, max_length=_MOST), Unique()] | None = None
    """A process was ended by one of these signals."""
    error_types: Annotated[ErrorTypes, Field(min_length=1)] | None = None
    """A process ended by an exception of one of these classes, as its error file tells."""
    node_conditions: Annotated[ConditionTypes, Field(min_length=1)] | None = None
    """One of these conditions of a node of the job is True: GpuMemWatch, SysLogsXIDError, KernelDeadlock …"""
    node_taints: Annotated[ConditionTypes, Field(min_length=1)] | None = None
    """A node of the job has a taint with one of these keys."""
    event: Event | None = None
    """Any event of this kind."""
    after: Annotated[AutoDuration, auto_or_within("1s", "24h")] | None = None
    """With event Hang: no step for so long; Auto, and what absent means, is five times the median step, at least 5s."""
    promql: PrometheusRule | None = None
    """A rule of the operator's settings fires: a query of Prometheus that an admin wrote."""
    log: LogRule | None = None
    """A line of output matches."""

    @model_validator(mode="after")
    def _one_is_given(self) -> Self:
        given = (
            self.exit_codes, self.signals, self.error_types, self.node_conditions, self.node_taints, self.event,
            self.promql, self.log,
        )  # fmt: skip
        if sum(one is not None for one in given) != 1:
            raise ValueError(_ONE_RULE)
        if self.after is not None and self.event is not Event.HANG:
            raise ValueError(_AFTER_RULE)
        return self


class Rule(SpecFields):
    """What is done about one thing that may go wrong."""

    when: Match
    """What the rule speaks of."""
    do: Action
    """What is done about it. What does not help is followed by the next dearer action, within the budget."""
    message: Message = ""
    """Words for the status, such as what to do about it."""


class RestartBudget(SpecFields):
    """How often a job may start its processes again."""

    restarts: Annotated[Integer, Field(ge=0, le=MAX_RESTARTS)] = 10
    """Starts within any `window`; one more is not made, and the job fails. 0: the first failure ends it."""
    window: Annotated[Duration, within("1m", "720h")] = Duration("1h")
    """Older starts do not count."""


class Recovery(SpecFields):
    """What is done about failures. Defaults below the rules cover everything."""

    budget: RestartBudget = RestartBudget()
    """How often the job may start its processes again."""
    spares: Annotated[Integer, Field(ge=0, le=64)] = 0
    """Pods that hold a node without training, to take the place of one that is lost."""
    rules: Annotated[tuple[Rule, ...], Field(max_length=MAX_RULES, json_schema_extra=ATOMIC)] = ()
    """First match wins; what no rule speaks of is done by default."""
    force_delete: Switch = False
    """
    Whether pods on lost nodes are deleted by force also where they have volumes that one node at a time may attach.
    Without it these stay Terminating until the node answers or is gone; their seats are filled by new pods all the
    same. A pod that is deleted by force may still run and write.
    """
