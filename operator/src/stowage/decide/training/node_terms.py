"""Keeping pods away from nodes, within domains, near to or far from each other, whatever affinity they have already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

Document = dict[str, Any]

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_HOST_KEY: Final = "kubernetes.io/hostname"
_MOST_WEIGHT: Final = 100


def without_nodes(affinity: Document, nodes: Iterable[str]) -> Document:
    """An affinity that admits what `affinity` does, but for these nodes.

    Terms are ORed, so each of them gets the requirements; one without any requirement selects nothing, and stays so.
    A requirement on a field takes exactly one value, so there is one for each node.
    """
    banned = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in sorted(set(nodes))]
    if not banned:
        return affinity
    chosen = affinity.get("nodeAffinity") or {}
    terms = (chosen.get(_REQUIRED) or {}).get("nodeSelectorTerms") or []
    narrowed = [
        {**term, "matchFields": [*(term.get("matchFields") or []), *banned]}
        if term.get("matchFields") or term.get("matchExpressions")
        else term
        for term in terms
    ]
    required = {"nodeSelectorTerms": narrowed or [{"matchFields": banned}]}
    return {**affinity, "nodeAffinity": {**chosen, _REQUIRED: required}}


def within(affinity: Document, domains: Iterable[tuple[str, str]]) -> Document:
    """An affinity that admits what `affinity` does, but only on nodes with all of these labels."""
    needed = [{"key": key, "operator": "In", "values": [value]} for key, value in domains]
    if not needed:
        return affinity
    chosen = affinity.get("nodeAffinity") or {}
    terms = (chosen.get(_REQUIRED) or {}).get("nodeSelectorTerms") or []
    narrowed = [
        {**term, "matchExpressions": [*(term.get("matchExpressions") or []), *needed]}
        if term.get("matchFields") or term.get("matchExpressions")
        else term
        for term in terms
    ]
    required = {"nodeSelectorTerms": narrowed or [{"matchExpressions": needed}]}
    return {**affinity, "nodeAffinity": {**chosen, _REQUIRED: required}}


def close_to(affinity: Document, labels: Mapping[str, str], keys: Iterable[str], *, required: bool) -> Document:
    """An affinity that wants, or would rather have, one domain of each key with the pods of these labels.

    The first key is the narrowest, and weighs most. The first pod of all may stand anywhere: it matches its own term.
    """
    near = affinity.get("podAffinity") or {}
    terms = [{"labelSelector": {"matchLabels": dict(labels)}, "topologyKey": key} for key in keys]
    if required:
        return {**affinity, "podAffinity": {**near, _REQUIRED: [*(near.get(_REQUIRED) or []), *terms]}}
    wishes = [{"weight": _MOST_WEIGHT // (2**place), "podAffinityTerm": term} for place, term in enumerate(terms)]
    return {**affinity, "podAffinity": {**near, _PREFERRED: [*(near.get(_PREFERRED) or []), *wishes]}}


def apart_from(affinity: Document, labels: Mapping[str, str], *, required: bool = False) -> Document:
    """An affinity that also wants, or would rather have, a node without pods of these labels."""
    apart = affinity.get("podAntiAffinity") or {}
    term = {"labelSelector": {"matchLabels": dict(labels)}, "topologyKey": _HOST_KEY}
    if required:
        return {**affinity, "podAntiAffinity": {**apart, _REQUIRED: [*(apart.get(_REQUIRED) or []), term]}}
    wishes = [*(apart.get(_PREFERRED) or []), {"weight": _MOST_WEIGHT, "podAffinityTerm": term}]
    return {**affinity, "podAntiAffinity": {**apart, _PREFERRED: wishes}}
