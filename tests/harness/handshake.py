"""A TLS handshake in memory: what a client that trusts a bundle makes of what a server shows."""

from __future__ import annotations

import ssl

from cryptography import x509


def shake_hands(server: ssl.SSLContext, bundle: bytes, name: str) -> x509.Certificate:
    """The server's certificate, once the client has accepted it.

    Raises:
        ssl.SSLError: the client refuses it, or the server has none.
    """
    client = ssl.create_default_context(cadata=bundle.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname=name)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        done = [_goes_on(asking), _goes_on(answering)]
        if all(done):
            break
    shown = asking.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown)


def _goes_on(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
