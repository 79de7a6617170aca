"""The cordons of one drain: only those that it set itself are ever taken back."""

from __future__ import annotations

from collections.abc import Callable, Collection

from stowage.transport import Api, ApiError, Conflict, NotFound, paths

TRIES = 5


class Cordons:
    """Nodes that this command made unschedulable.

    Args:
        api: the connection.
        say: told what happens, line by line.
    """

    def __init__(self, api: Api, say: Callable[[str], None]) -> None:
        self._api = api
        self._say = say
        self.names: list[str] = []

    async def set(self, names: Collection[str]) -> None:
        """Cordon nodes; whoever was faster than this command keeps the cordon.

        Raises:
            ApiError: refused, or nobody knows; then the node counts as cordoned.
        """
        for name in names:
            for attempt in range(TRIES):
                try:
                    await self._set(name)
                    break
                except Conflict:
                    if attempt == TRIES - 1:
                        raise

    async def _set(self, name: str) -> None:
        node = await self._api.get(paths.node(name))
        if (node.get("spec") or {}).get("unschedulable"):
            return
        as_read = {"resourceVersion": node["metadata"].get("resourceVersion")}
        self.names.append(name)
        try:
            await self._api.merge_patch(paths.node(name), {"metadata": as_read, "spec": {"unschedulable": True}})
        except ApiError as error:
            if 400 <= error.status < 500:
                self.names.remove(name)
            raise
        self._say(f"node {name} cordoned")

    async def take_back(self) -> None:
        """Uncordon what was cordoned here; one that fails keeps no other from being tried.

        Raises:
            ApiError: the first failure; `names` has the nodes that stay cordoned.
        """
        failures = []
        for name in tuple(self.names):
            try:
                await self._api.merge_patch(paths.node(name), {"spec": {"unschedulable": None}})
                self._say(f"node {name} uncordoned")
            except NotFound:
                self._say(f"node {name} is gone")
            except ApiError as error:
                self._say(f"node {name} stays cordoned: {error}")
                failures.append(error)
                continue
            self.names.remove(name)
        if failures:
            raise failures[0]
