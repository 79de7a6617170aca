"""PromQL for the series of named pods: one range selector, no functions, so that samples come with their own times.

Whatever comes from users is a value of a label, and values are quoted; the namespace is always one of the matchers.
Source of the syntax: prometheus.io, Querying basics; RE2 for expressions, which Prometheus anchors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from stowage.observe.serving.names import NAME, UnsafeNameError

MAX_PODS: Final = 25
"""Of one query: with 115 series each, scraped every 5 s, they give three quarters of `MAX_SAMPLES`."""
MAX_POD_BYTES: Final = 3_000
"""Of the names of pods in one query: an address of 8 KiB is what proxies take."""
_OF_EXPRESSIONS: Final = re.compile(r"([\\.+*?()|\[\]{}^$])")
_MAX_HASH: Final = 10
_MAX_HEAD: Final = 58
"""Of a name that the API server makes, before its five characters: what is longer it cuts off
(`k8s.io/apiserver/pkg/storage/names`)."""
_ENDING: Final = 5
_OF_DEPLOYMENT: Final = re.compile(r"(.+)-[a-z0-9]{1,10}-[a-z0-9]{5}")
_OF_GROUPS: Final = re.compile(r"(.+)-[0-9]{1,6}-[0-9]{1,6}-0")
_IN_STRINGS: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quoted(value: str) -> str:
    """A string of PromQL.

    Raises:
        ValueError: it has characters that no label of Kubernetes has.
    """
    text = "".join(_IN_STRINGS.get(one, one) for one in value)
    if not text.isprintable():
        raise ValueError(f"{value!r} cannot be the value of a label")
    return f'"{text}"'


def exactly(values: Collection[str]) -> str:
    """An expression, as a string of PromQL, that matches these values and no others."""
    return quoted("|".join(_OF_EXPRESSIONS.sub(r"\\\1", one) for one in sorted(values)))


def of_pods(names: Sequence[str], namespace: str, pods: Collection[str]) -> str:
    """A selector of the series with these names, of these pods in one namespace.

    Args:
        names: of series.
        namespace: that the series must be of.
        pods: names of the pods; at least one.

    Raises:
        UnsafeNameError: a name is none of a series.
        ValueError: there is no pod, or a name cannot be one.
    """
    if not pods or not all(pods):
        raise ValueError("a query without pods would ask for those of everybody")
    return _selector(names, namespace, exactly(pods))


def of_deployments(
    names: Sequence[str], namespace: str, deployments: Collection[str], groups: Collection[str] = ()
) -> str:
    """A selector of the series of all pods that Deployments of these names have or had, and of first pods of groups.

    A pod is named by its Deployment, a hash and five characters: two parts without `-` behind the Deployment's name,
    and less of them, or of the name itself, where that is so long that the API server cuts it off. Behind the name of
    a variant with groups are three numbers, the last one 0 for a first pod.

    Raises:
        UnsafeNameError: a name is none of a series.
        ValueError: there is neither Deployment nor group.
    """
    if not (deployments or groups) or not all((*deployments, *groups)):
        raise ValueError("a query without Deployments would ask for the pods of everybody")
    found = []
    if deployments:
        whole = [one for one in deployments if len(one) + _MAX_HASH + 2 <= _MAX_HEAD]
        found += [f"(?:{_either(whole)})-[a-z0-9]{{1,10}}-[a-z0-9]{{5}}"] if whole else []
        found += [_cut_off(one) for one in sorted({*deployments} - {*whole})]
    if groups:
        found.append(f"(?:{_either(groups)})-[0-9]{{1,6}}-[0-9]{{1,6}}-0")
    return _selector(names, namespace, quoted("|".join(found)))


def deployment_of(pod: str) -> str | None:
    """The name of the Deployment that a pod's name says; None: it is named otherwise, or may have been cut off."""
    found = _OF_DEPLOYMENT.fullmatch(pod)
    return None if found is None or len(pod) >= _MAX_HEAD + _ENDING else found[1]


def groups_of(pod: str) -> str | None:
    """The name of the variant that the name of a group's first pod says; None: it is named otherwise."""
    found = _OF_GROUPS.fullmatch(pod)
    return None if found is None else found[1]


def within(selector: str, seconds: float) -> str:
    """The samples of the last seconds, as they were scraped."""
    return f"{selector}[{math.ceil(seconds)}s]"


def batches(pods: Collection[str], most: int = MAX_PODS) -> Iterator[tuple[str, ...]]:
    """Pods in order of their names, as many as one query may name at once."""
    batch: list[str] = []
    for pod in sorted(pods):
        if batch and (len(batch) >= most or sum(map(len, batch)) + len(pod) > MAX_POD_BYTES):
            yield tuple(batch)
            batch = []
        batch.append(pod)
    if batch:
        yield tuple(batch)


def _cut_off(deployment: str) -> str:
    """An expression for the pods of a Deployment whose name leaves no room for all of the hash."""
    if len(deployment) >= _MAX_HEAD:
        return f"{_either([deployment[:_MAX_HEAD]])}[a-z0-9]{{5}}"
    return f"{_either([deployment])}-[a-z0-9]{{0,10}}-?[a-z0-9]{{5}}"


def _either(values: Collection[str]) -> str:
    return "|".join(_OF_EXPRESSIONS.sub(r"\\\1", one) for one in sorted(values))


def _selector(names: Sequence[str], namespace: str, pods: str) -> str:
    for name in names:
        if not NAME.fullmatch(name.removesuffix("_bucket")):
            raise UnsafeNameError(f"{name!r} is no name of a series: letters, digits, _ and : only")
    if not names or not namespace:
        raise ValueError("a query names its series and its namespace")
    return f"{{__name__=~{quoted('|'.join(names))},namespace={quoted(namespace)},pod=~{pods}}}"
