"""Whose fault a failure is, as far as one look can tell: workload, infrastructure or unknown.

The axis is that of NVIDIA's Resiliency Extension. Messages are read only for words that devices, drivers and
collective libraries are known to use; everything else stays unknown rather than guessed.
"""

from __future__ import annotations

import re
from typing import Final

from stowage.api.training_words import Domain, Event
from stowage.decide.training.facts import Evidence
from stowage.decide.training.rules import MAINTENANCE_CONDITIONS, MAINTENANCE_TAINTS, UNUSABLE_IMAGES

_OF_NODES: Final = frozenset(
    {
        Event.NODE_LOST,
        Event.NODE_CONDITION,
        Event.NODE_TAINT,
        Event.DEVICE_UNHEALTHY,
        Event.DISRUPTION,
        Event.SUPERVISOR_LOST,
    }
)
"""No program ends its supervisor: silence that no container explains is the node's, or the network's."""
_OF_PROGRAMS: Final = frozenset(
    {
        "ArithmeticError",
        "AssertionError",
        "AttributeError",
        "FileNotFoundError",
        "ImportError",
        "IndexError",
        "KeyError",
        "ModuleNotFoundError",
        "NameError",
        "NotImplementedError",
        "OutOfMemoryError",
        "RecursionError",
        "SyntaxError",
        "TypeError",
        "UnboundLocalError",
        "ValueError",
        "ZeroDivisionError",
    }
)
"""Exceptions that come from what a program does, wherever it runs."""

_FAULTY_DEVICE: Final = re.compile(
    r"\bECC\b|\bNVLink\b|\bXid\b|uncorrectable|fallen off the bus|hardware (error|stack)|"
    r"system not yet initialized|device is (lost|unavailable)|Input/output error|Remote I/O error",
    re.IGNORECASE,
)
_PEER_IS_GONE: Final = re.compile(
    r"\bNCCL\b|\bgloo\b|connection (was )?(closed|reset|refused|aborted)|broken pipe|closed by peer|"
    r"coordination service|heartbeat timeout|rendezvous|barrier timed out|store-based barrier",
    re.IGNORECASE,
)
_PEER_ERRORS: Final = frozenset(
    {
        "BrokenPipeError",
        "ConnectionAbortedError",
        "ConnectionError",
        "ConnectionRefusedError",
        "ConnectionResetError",
        "DistBackendError",
        "DistNetworkError",
        "DistStoreError",
    }
)
_SIGABRT: Final = 6
_SIGTERM: Final = 15


def domain_of(evidence: Evidence) -> Domain:
    """Whose fault it looks like."""
    if evidence.event in _OF_NODES:
        return Domain.INFRASTRUCTURE
    if evidence.event is Event.OUT_OF_MEMORY or evidence.name in UNUSABLE_IMAGES:
        return Domain.WORKLOAD
    if evidence.event is Event.IMAGE_UNAVAILABLE:
        return Domain.WORKLOAD
    if evidence.event is not Event.PROCESS_EXITED:
        return Domain.UNKNOWN
    if _FAULTY_DEVICE.search(evidence.error_message):
        return Domain.INFRASTRUCTURE
    return Domain.WORKLOAD if evidence.error_type.rpartition(".")[2] in _OF_PROGRAMS else Domain.UNKNOWN


def is_consequence(evidence: Evidence) -> bool:
    """Whether a process may have ended only because another one did: it lost its peers, or was told to stop."""
    if evidence.event is not Event.PROCESS_EXITED:
        return False
    if evidence.signal in {_SIGABRT, _SIGTERM} and not evidence.error_type:
        return True
    return evidence.error_type.rpartition(".")[2] in _PEER_ERRORS or bool(_PEER_IS_GONE.search(evidence.error_message))


def is_blameless(evidence: Evidence) -> bool:
    """Whether nobody failed: a pod made way, or a node is taken for maintenance."""
    if evidence.event is Event.NODE_CONDITION:
        return evidence.name in MAINTENANCE_CONDITIONS
    if evidence.event is Event.NODE_TAINT:
        return evidence.name in MAINTENANCE_TAINTS
    return evidence.event is Event.DISRUPTION
