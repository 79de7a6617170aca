"""Reading a live cluster as one List."""

from __future__ import annotations

from typing import Any

import pytest

from stowage.cli.cluster import COLLECTIONS, OPTIONAL, read_list
from stowage.transport import paths
from stowage.transport.errors import ApiError, Forbidden, NotFound

Document = dict[str, Any]


class Answers:
    """An API server with one object in each collection; some collections answer with an error."""

    def __init__(self, **errors: ApiError) -> None:
        self.errors = {getattr(paths, name): error for name, error in errors.items()}

    async def get(self, path: str, _: Document) -> Document:
        if path in self.errors:
            raise self.errors[path]
        return {"items": [{"metadata": {"name": path.rpartition("/")[2]}}], "metadata": {}}


async def test_each_object_says_what_it_is() -> None:
    items = (await read_list(Answers()))["items"]
    assert len(items) == len(COLLECTIONS)
    groups = [item for item in items if item["kind"] == "PodGroup"]
    assert [item["apiVersion"] for item in groups] == ["scheduling.k8s.io/v1alpha2", "scheduling.x-k8s.io/v1alpha1"]


@pytest.mark.parametrize("error", [NotFound("GET", status=404), Forbidden("GET", status=403)], ids=["404", "403"])
async def test_what_not_every_cluster_has_may_be_missing(error: ApiError) -> None:
    """Nobody was given rights to a resource that is not there, and the server then says 403 before 404."""
    missing = ("POD_GROUPS", "COSCHEDULING_POD_GROUPS", "TRAINING_JOBS", "MODEL_SERVICES", "PERFORMANCE_PROFILES")
    items = (await read_list(Answers(**dict.fromkeys(missing, error))))["items"]
    assert len(items) == len(COLLECTIONS) - len(OPTIONAL)


async def test_what_every_cluster_has_must_be_readable() -> None:
    with pytest.raises(Forbidden):
        await read_list(Answers(PODS=Forbidden("GET", status=403)))
