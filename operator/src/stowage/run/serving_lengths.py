"""How long the requests of a role were in the last hour, by one Prometheus."""

from __future__ import annotations

import logging

from stowage.api.model_service import ModelService
from stowage.decide.serving.request_sizes import Lengths, lengths_of
from stowage.decide.serving.signals_role import KEPT_SECONDS
from stowage.observe.prometheus import Prometheus
from stowage.observe.prometheus_session import QueryError
from stowage.observe.serving.sizes import NAMES, counts_of, size_query

logger = logging.getLogger(__name__)


async def lengths_by(server: Prometheus, service: ModelService, role: str) -> tuple[Lengths | None, Lengths | None]:
    """Lengths of prompts and outputs; None where the engine has no such histogram, or nobody answers."""
    names, spec = NAMES.get(service.spec.engine.type), service.spec.role(role)
    if names is None or spec is None:
        return None, None
    deployments = [f"{service.name}-{role}-{one.name}" for one in spec.variants if one.group is None]
    groups = [f"{service.name}-{role}-{one.name}" for one in spec.variants if one.group is not None]
    found: list[Lengths | None] = []
    for name in (names.prompts, names.outputs):
        query = size_query(name, service.metadata.namespace or "", deployments, KEPT_SECONDS, groups)
        try:
            found.append(lengths_of(counts_of(await server.ask(query))))
        except QueryError as error:
            logger.debug("%s: %s is not known: %s", service.key, name, error)
            found.append(None)
    return found[0], found[1]
