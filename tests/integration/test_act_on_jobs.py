"""What the operator writes for jobs, on the real API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from stowage.act.training import NameTaken, ensure_token, get_job
from stowage.api.training_job import TrainingJob
from stowage.transport import Api
from stowage.transport.paths import SECRETS, TRAINING_JOBS, in_namespace, named

JOBS, SECRET = in_namespace(TRAINING_JOBS, "default"), named(in_namespace(SECRETS, "default"), "tokens-token")
SPEC: dict[str, Any] = {"template": {"spec": {"containers": [{"name": "trainer", "image": "i", "command": ["true"]}]}}}


@pytest.fixture
async def job(api: Api) -> AsyncIterator[TrainingJob]:
    document = {"apiVersion": "stowage.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "tokens"}}
    await api.create(JOBS, {**document, "spec": SPEC})
    found = await get_job(api, "default", "tokens")
    assert found is not None
    yield found
    await api.delete(named(JOBS, "tokens"))
    await api.delete(SECRET)


async def test_a_secret_that_was_deleted_is_made_again_with_the_token_that_pods_have(
    api: Api, job: TrainingJob
) -> None:
    token = await ensure_token(api, job)
    await api.delete(SECRET)
    assert await ensure_token(api, job, token) == token
    assert await ensure_token(api, job) == token


async def test_a_secret_of_that_name_that_is_not_the_jobs_is_left_alone(api: Api, job: TrainingJob) -> None:
    metadata = {"name": "tokens-token"}
    await api.create(in_namespace(SECRETS, "default"), {"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    with pytest.raises(NameTaken, match="not of this job"):
        await ensure_token(api, job, "a token")
