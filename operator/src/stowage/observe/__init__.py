"""Observing: reflectors that follow collections of the API server, and the store of facts they fill."""

from __future__ import annotations

from stowage.observe.reflector import Absent, Event, ObjectKey, Present, Reflector, Refused
from stowage.observe.store import Store

__all__ = ["Absent", "Event", "ObjectKey", "Present", "Reflector", "Refused", "Store"]
