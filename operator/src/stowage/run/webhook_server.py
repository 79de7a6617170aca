"""The webhook as a part of the operator process: port, certificate, and what goes wrong with either.

Every replica serves, for API servers ask any of them.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from aiohttp import web
from msgspec import Struct

from stowage.admission.configuration import PATH
from stowage.decide.training.promql_rules import PromqlRule
from stowage.run.certificates import CertificateError, Lifetimes
from stowage.run.certificates_files import MountedCertificates
from stowage.run.certificates_secret import SecretCertificates
from stowage.run.webhook import OnAnswer, Webhook
from stowage.run.webhook_tls import ServingContext
from stowage.transport import Api, ApiError
from stowage.transport.backoff import Backoff
from stowage_scheduler.cluster import Snapshot

LOOK_EVERY_SECONDS: Final = 30.0  # far less than a stage of a rotation lasts; a bundle that was wiped is back by then
LOOK_SOON_SECONDS: Final = 3.0  # while the webhook is not registered: an install does that last
LOOK_WITHIN_SECONDS: Final = 20.0

logger = logging.getLogger(__name__)


class WebhookOptions(Struct, frozen=True):
    """Where the webhook serves, and with which certificate.

    Attributes:
        host: address to listen on.
        port: to listen on; 0: any free one.
        name: by which API servers call it, `SERVICE.NAMESPACE.svc` or an address.
        namespace: of the Secret.
        secret: name of the Secret with the certificates.
        configuration: name of the ValidatingWebhookConfiguration.
        certificates: folder with a certificate that somebody else keeps; None: Stowage makes its own.
        lifetimes: of the certificates that Stowage makes.
    """

    host: str
    port: int
    name: str
    namespace: str
    secret: str
    configuration: str
    certificates: Path | None = None
    lifetimes: Lifetimes = Lifetimes()


class _Certificates(Protocol):
    async def look(self) -> bool: ...


class AdmissionServer:
    """Serves the webhook.

    Args:
        api: the connection.
        snapshot: the cluster as it was last seen; None while not all of it has been.
        options: where and how.
        now: wall clock, seconds since the epoch: certificates go by it.
        generator: source of jitter.
        on_answer: told of each answer: kind, outcome, seconds.
        promql_rules: those of the settings, by name.
        on_certificate: told when the certificate in use ends, seconds since the epoch.
    """

    def __init__(
        self,
        api: Api,
        snapshot: Callable[[], Snapshot | None],
        options: WebhookOptions,
        *,
        now: Callable[[], float],
        generator: random.Random,
        promql_rules: Mapping[str, PromqlRule] | None = None,
        on_answer: OnAnswer = lambda _kind, _outcome, _seconds: None,
        on_certificate: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.port = options.port
        self._options = options
        self._now = now
        self._generator = generator
        self._webhook = Webhook(api, snapshot, promql_rules=promql_rules, on_answer=on_answer)
        self._context = ServingContext(on_certificate)
        self._certificates: _Certificates
        if options.certificates is not None:
            self._certificates = MountedCertificates(options.certificates, use=self._context.use)
        else:
            self._certificates = SecretCertificates(
                api,
                namespace=options.namespace,
                secret=options.secret,
                configuration=options.configuration,
                names=(options.name,),
                now=now,
                use=self._context.use,
                lifetimes=options.lifetimes,
            )
        self._trouble = "not looked for yet"

    def problems(self) -> list[str]:
        """Why no API server can ask this replica, one sentence each."""
        if not self._context.loaded:
            return [f"the webhook has no certificate: {self._trouble}"]
        end = self._context.expires_at
        if end is not None and end <= self._now():
            return [f"the webhook's certificate has ended: {self._trouble}"]
        return []

    async def run(self) -> None:
        """Serve until cancelled. No failure to get a certificate ends it: the next look may find one.

        Raises:
            OSError: the port is taken.
        """
        runner = web.AppRunner(self._webhook.app(PATH), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._options.host, self._options.port, ssl_context=self._context.ssl)
            await site.start()
            self.port = int(runner.addresses[0][1])
            logger.info("admission webhook on %s:%d%s", self._options.host, self.port, PATH)
            await self._keep_certificate()
        finally:
            await runner.cleanup()

    async def look(self) -> bool:
        """Look after the certificate once.

        Returns:
            Whether API servers know whom to trust; False while the webhook is not registered.

        Raises:
            ApiError: the Secret or the configuration could not be read or written.
            CertificateError: there is none that can be used.
        """
        return await self._certificates.look()

    async def _keep_certificate(self) -> None:
        backoff = Backoff(self._generator)
        while True:
            try:
                async with asyncio.timeout(LOOK_WITHIN_SECONDS):
                    told = await self.look()
            except (ApiError, CertificateError, TimeoutError) as error:
                asked = error.retry_after_seconds if isinstance(error, ApiError) else None
                pause_seconds = backoff.next_seconds(asked)
                self._tell(str(error) or "no answer in time")
            else:
                backoff.reset()
                self._trouble = ""
                longest_seconds = LOOK_EVERY_SECONDS if told else LOOK_SOON_SECONDS
                pause_seconds = longest_seconds * self._generator.uniform(0.8, 1.0)
            await asyncio.sleep(pause_seconds)

    def _tell(self, words: str) -> None:
        level = logging.DEBUG if words == self._trouble else logging.WARNING
        logger.log(level, "certificate of the webhook: %s", words)
        self._trouble = words
