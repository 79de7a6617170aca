"""Certificates that somebody else keeps, such as cert-manager: files of a mounted Secret, read at each look."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from stowage.run.certificates import CertificateError, Pair

CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"


class MountedCertificates:
    """Certificate and key in a folder; nothing is written, not even the bundle that API servers trust.

    Args:
        folder: with `tls.crt` and `tls.key`.
        use: called with the pair at each look; its authority is empty, for it is not ours.
    """

    def __init__(self, folder: Path, *, use: Callable[[Pair], None]) -> None:
        self._folder = folder
        self._use = use

    async def look(self) -> bool:
        """Use what the files hold now.

        Returns:
            True: who keeps the files tells API servers, too.

        Raises:
            CertificateError: they are not there, or certificate and key are not of one pair.
        """
        self._use(Pair(b"", self._read(CERTIFICATE), self._read(KEY)))
        return True

    def _read(self, name: str) -> bytes:
        path = self._folder / name
        try:
            return path.read_bytes()
        except OSError as error:
            cure = "mount the Secret of the certificate there, or unset webhook_certificates"
            raise CertificateError(f"{path} cannot be read ({error.strerror}); {cure}") from error
