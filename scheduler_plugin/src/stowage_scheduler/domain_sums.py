"""Sums over many domains of nodes at once: a rack or a host is small, and a cluster has thousands of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

_Ints = npt.NDArray[np.int64]


class DomainSums:
    """Domains of one topology key, for sums of what their nodes have.

    Args:
        domains: the numbers of the nodes of each.

    `rank` is each domain's place in the order of their nodes.
    """

    def __init__(self, domains: Sequence[Collection[int]]) -> None:
        inside = [sorted(domain) for domain in domains]
        self.rank: _Ints = np.empty(len(inside), dtype=np.int64)
        self.rank[sorted(range(len(inside)), key=inside.__getitem__)] = np.arange(len(inside))
        self._nodes: _Ints = np.array([node for domain in inside for node in domain], dtype=np.int64)
        self._owner: _Ints = np.repeat(np.arange(len(inside)), [len(domain) for domain in inside])

    def of(self, amounts: _Ints) -> _Ints:
        """The sum of each domain; `amounts` by number of the node."""
        found: _Ints = np.zeros(len(self.rank), dtype=np.int64)
        np.add.at(found, self._owner, amounts[self._nodes])
        return found
