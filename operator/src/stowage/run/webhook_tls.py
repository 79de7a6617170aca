"""The TLS side of the webhook: a certificate that changes while connections go on."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Callable, Iterator

from stowage.run.certificates import CertificateError, Pair, expires_at


class ServingContext:
    """The TLS context of a server; each new connection gets the newest certificate.

    Args:
        on_certificate: called with the end of a certificate that is taken into use, seconds since the epoch.
    """

    def __init__(self, on_certificate: Callable[[float], None] = lambda _: None) -> None:
        self.ssl = _context()
        self.expires_at: float | None = None
        self._on_certificate = on_certificate
        self._pair: Pair | None = None

    @property
    def loaded(self) -> bool:
        """Whether there is a certificate to serve."""
        return self._pair is not None

    def use(self, pair: Pair) -> None:
        """Take a pair into use, unless it is already; one that is of no use leaves the present one as it is.

        Raises:
            CertificateError: it cannot be read, or the key belongs to another certificate.
        """
        if pair == self._pair:
            return
        end = expires_at(pair.certificate)
        with _path_of(pair.certificate) as certificate, _path_of(pair.key) as key:
            try:
                _context().load_cert_chain(certificate, key)  # tried aside: a failure half-way would spoil the live one
            except ssl.SSLError as error:
                raise CertificateError(
                    f"certificate and key of the webhook do not belong together: {error.reason or error}"
                ) from error
            self.ssl.load_cert_chain(certificate, key)
        self._pair = pair
        self.expires_at = end
        self._on_certificate(end)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


@contextlib.contextmanager
def _path_of(content: bytes) -> Iterator[str]:
    """A path that holds some bytes in memory: keys are loaded from files only, and must not reach a disk."""
    with open(os.memfd_create("stowage-webhook"), "wb") as file:  # noqa: PTH123 - there is no path yet
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"
