"""Where the replicas agree on the webhook's certificates: one Secret; and how API servers hear of them.

Any replica makes the next stage, not the leader alone: a standby serves too, and a webhook must not stop when nobody
leads. The API server lets one writer win (create if absent, else by resourceVersion); the others read what it wrote.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from stowage.run.certificates import (
    SECRET_KEYS,
    CertificateError,
    Keys,
    Lifetimes,
    Pair,
    advance,
    from_secret,
    to_secret,
)
from stowage.transport import Api, ApiError, Conflict, NotFound, paths

SECRETS: Final = "/api/v1/secrets"
CONFIGURATIONS: Final = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
TRIES: Final = 5

Document = dict[str, Any]

logger = logging.getLogger(__name__)


class SecretCertificates:
    """Certificates that Stowage makes, in a Secret.

    Args:
        api: the connection.
        namespace: of the Secret.
        secret: its name; it may be there and empty.
        configuration: name of the ValidatingWebhookConfiguration that gets the bundle.
        names: by which API servers call the webhook.
        now: seconds since the epoch.
        use: called with the pair that serves, at each look.
        lifetimes: of the certificates.
    """

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        secret: str,
        configuration: str,
        names: Iterable[str],
        now: Callable[[], float],
        use: Callable[[Pair], None],
        lifetimes: Lifetimes = Lifetimes(),  # noqa: B008 - frozen
    ) -> None:
        self._api = api
        self._collection = paths.in_namespace(SECRETS, namespace)
        self._name = secret
        self._secret = paths.named(self._collection, secret)
        self._configuration = paths.named(CONFIGURATIONS, configuration)
        self._names = tuple(names)
        self._now = now
        self._use = use
        self._lifetimes = lifetimes

    async def look(self) -> bool:
        """Use what the replicas have agreed on, tell API servers of it, and begin the next stage when it is due.

        Returns:
            Whether API servers know; False while the webhook is not registered.

        Raises:
            ApiError: the Secret or the configuration could not be read or written.
            CertificateError: a name is of no use for a certificate.
        """
        for tried in range(TRIES):
            stored = await self._read()
            keys = from_secret(stored.get("data") or {}) if stored is not None else None
            if keys is None and stored is not None and stored.get("data"):
                logger.warning(
                    "Secret %s holds no pair of certificate and key that can be read; it is replaced", self._name
                )
            told, trouble = await self._use_and_publish(keys) if keys is not None else (False, None)
            due = advance(keys, self._names, self._now(), self._lifetimes, published=trouble is None)
            try:
                if due is not keys:
                    await self._write(stored, due)
                elif trouble is not None:
                    raise trouble
                else:
                    return told
            except Conflict:  # another replica was faster: what it wrote counts
                if tried == TRIES - 1:
                    raise
        return False  # stages that are due again and again: the next look goes on

    async def _read(self) -> Document | None:
        try:
            return await self._api.get(self._secret)
        except NotFound:
            return None

    async def _write(self, stored: Document | None, keys: Keys) -> None:
        data = to_secret(keys)
        if stored is None:
            document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": self._name}, "data": data}
            await self._api.create(self._collection, document)
        else:
            foreign = {name: part for name, part in (stored.get("data") or {}).items() if name not in SECRET_KEYS}
            stored["metadata"].pop("managedFields", None)  # absent means untouched
            await self._api.replace(self._secret, {**stored, "data": {**foreign, **data}})
        stage = (
            "announced" if keys.following else "changed, the former one is trusted for now" if keys.former else "made"
        )
        logger.info("certificate of the webhook in Secret %s: %s", self._name, stage)

    async def _use_and_publish(self, keys: Keys) -> tuple[bool, ApiError | CertificateError | None]:
        """Serve the pair, and tell API servers of the bundle; returns whether they know, and what went wrong."""
        try:
            self._use(keys.serving)
            return await self._publish(base64.b64encode(keys.bundle).decode()), None
        except (ApiError, CertificateError) as error:
            return False, error

    async def _publish(self, bundle: str) -> bool:
        try:
            found = await self._api.get(self._configuration)
        except NotFound:
            return False  # nobody asks us; who registers the webhook is served at the next look
        webhooks = found.get("webhooks") or []
        if all((one.get("clientConfig") or {}).get("caBundle") == bundle for one in webhooks):
            return True
        told = [{**one, "clientConfig": {**(one.get("clientConfig") or {}), "caBundle": bundle}} for one in webhooks]
        # the list is replaced as a whole, so it must be the one that was read
        metadata = {"resourceVersion": found["metadata"]["resourceVersion"]}
        await self._api.merge_patch(self._configuration, {"metadata": metadata, "webhooks": told})
        logger.info("told API servers which certificates of the webhook to trust")
        return True
