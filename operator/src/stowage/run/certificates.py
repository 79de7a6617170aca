"""Certificates that Stowage makes for its webhook: what they are, and when which of them serves.

An authority signs one serving certificate and its key is thrown away: a stolen Secret lets nobody sign another one, and
authority and certificate are replaced together, by one way that is walked every two months. In three stages: the next
pair is *announced* (the bundle trusts it, the present one serves), it *serves* (the bundle still trusts the former one,
for another replica may serve that a while longer), and the former one is *retired*.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

DAY_SECONDS: Final = 86_400.0
BACKDATED_SECONDS: Final = 3600.0  # clocks of API servers differ
MAX_NAMES: Final = 16

_PEM: Final = serialization.Encoding.PEM
_PAIR_KEYS: Final = ("ca.crt", "tls.crt", "tls.key")
_NEXT_KEYS: Final = ("next-ca.crt", "next.crt", "next.key")
_FORMER_KEY: Final = "former-ca.crt"
_CHANGED_KEY: Final = "changed-at"
SECRET_KEYS: Final = frozenset({*_PAIR_KEYS, *_NEXT_KEYS, _FORMER_KEY, _CHANGED_KEY})


class CertificateError(ValueError):
    """A certificate or key that cannot be used; the message says which, why, and what to do."""


class Lifetimes(Struct, frozen=True):
    """Times of the certificates, in seconds.

    Attributes:
        valid: a pair is valid for so long.
        renew_after: the next pair is made at this age; well before the end, for nobody may look for weeks.
        overlap: between two stages: by then every replica has looked, and every API server trusts the new bundle.
    """

    valid: float = 90 * DAY_SECONDS
    renew_after: float = 60 * DAY_SECONDS
    overlap: float = 3600.0


class Pair(Struct, frozen=True):
    """A serving certificate, its key, and the authority that signed it, as PEM."""

    authority: bytes
    certificate: bytes
    key: bytes


class Keys(Struct, frozen=True):
    """What all replicas share.

    Attributes:
        serving: the pair that serves now.
        following: the announced one, which serves next.
        former: the authority of the pair that served before.
        changed_at: when the last stage began, seconds since the epoch.
    """

    serving: Pair
    following: Pair | None = None
    former: bytes | None = None
    changed_at: float = 0.0

    @property
    def bundle(self) -> bytes:
        """The authorities that API servers shall trust, as PEM."""
        following = self.following.authority if self.following is not None else None
        return b"".join(one for one in (self.serving.authority, following, self.former) if one)


def advance(keys: Keys | None, names: Iterable[str], now: float, lifetimes: Lifetimes, *, published: bool) -> Keys:
    """The stage that is due; `keys` itself when it is the present one.

    Args:
        keys: as stored; None: nothing that can be used is.
        names: by which API servers call the webhook: DNS names or addresses.
        now: seconds since the epoch.
        lifetimes: of the pairs and stages.
        published: whether API servers were told of the present bundle: no further stage begins before.
    """
    wanted = frozenset(_normal(name) for name in names)
    if keys is None:
        return Keys(issue(sorted(wanted), now, lifetimes.valid), changed_at=now)
    if not serves(keys.serving, wanted, now):  # nothing to lose: nobody trusts it
        following = keys.following
        if following is None or not serves(following, wanted, now):
            following = issue(_and_its_names(wanted, keys.serving), now, lifetimes.valid)
        return Keys(following, former=keys.serving.authority, changed_at=now)
    if not published or abs(now - keys.changed_at) < lifetimes.overlap:
        return keys
    if keys.following is not None:
        if serves(keys.following, wanted, now):
            return Keys(keys.following, former=keys.serving.authority, changed_at=now)
        return Keys(keys.serving, former=keys.former, changed_at=now)
    if keys.former is not None:
        return Keys(keys.serving, changed_at=now)
    if now - _made_at(keys.serving) >= lifetimes.renew_after:
        following = issue(_and_its_names(wanted, keys.serving), now, lifetimes.valid)
        return Keys(keys.serving, following=following, changed_at=now)
    return keys


def issue(names: Iterable[str], now: float, valid_seconds: float) -> Pair:
    """A new authority and one certificate signed by it; the authority's key is forgotten.

    Args:
        names: DNS names or addresses that the certificate is for.
        now: seconds since the epoch.
        valid_seconds: until its end.

    Raises:
        CertificateError: a name is neither, or there is none.
    """
    alternatives = [_alternative(name) for name in names if name]
    if not alternatives:
        raise CertificateError("a certificate needs a name: set webhook_name to SERVICE.NAMESPACE.svc")
    signing_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    start = dt.datetime.fromtimestamp(now - BACKDATED_SECONDS, dt.UTC)
    end = dt.datetime.fromtimestamp(now + valid_seconds, dt.UTC)
    serial = x509.random_serial_number()
    # authorities of one bundle have names that differ, or a client would try the wrong one
    issuer = _named(f"Stowage webhook authority {serial:x}"[:64])
    authority = (
        _builder(issuer, issuer, signing_key.public_key(), signing_key, serial, start, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(signing_key, hashes.SHA256())
    )
    leaf_serial = x509.random_serial_number()
    certificate = (
        _builder(_named("stowage-webhook"), issuer, key.public_key(), signing_key, leaf_serial, start, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(signing_key, hashes.SHA256())
    )
    private = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(authority.public_bytes(_PEM), certificate.public_bytes(_PEM), private)


def serves(pair: Pair, names: Iterable[str], now: float) -> bool:
    """Whether an API server that trusts the pair's authority accepts it now, under all of these names."""
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        authority = x509.load_pem_x509_certificate(pair.authority)
        key = serialization.load_pem_private_key(pair.key, password=None)
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    if key.public_key() != certificate.public_key() or not set(names) <= _names_of(certificate):
        return False
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    return all(one.not_valid_before_utc <= moment < one.not_valid_after_utc for one in (certificate, authority))


def expires_at(certificate: bytes) -> float:
    """When a certificate ends, seconds since the epoch.

    Raises:
        CertificateError: it is none.
    """
    try:
        return x509.load_pem_x509_certificate(certificate).not_valid_after_utc.timestamp()
    except ValueError as error:
        raise CertificateError(f"tls.crt holds no certificate in PEM: {error}") from error


def to_secret(keys: Keys) -> dict[str, str]:
    """`data` of the Secret."""
    parts = dict(zip(_PAIR_KEYS, (keys.serving.authority, keys.serving.certificate, keys.serving.key), strict=True))
    if keys.following is not None:
        following = keys.following.authority, keys.following.certificate, keys.following.key
        parts |= dict(zip(_NEXT_KEYS, following, strict=True))
    if keys.former is not None:
        parts[_FORMER_KEY] = keys.former
    parts[_CHANGED_KEY] = b"%d" % int(keys.changed_at)  # rounded up, a stage would come late
    return {name: base64.b64encode(part).decode() for name, part in parts.items()}


def from_secret(data: Mapping[str, str]) -> Keys | None:
    """The keys in `data` of a Secret; None when there is no whole pair among them."""
    try:
        parts = {name: base64.b64decode(data[name], validate=True) for name in SECRET_KEYS if data.get(name)}
        changed_at = float(parts.get(_CHANGED_KEY, b"0"))
    except (binascii.Error, ValueError):
        return None
    if not parts.keys() >= {*_PAIR_KEYS}:
        return None
    whole = parts.keys() >= {*_NEXT_KEYS}
    return Keys(
        serving=Pair(*(parts[name] for name in _PAIR_KEYS)),
        following=Pair(*(parts[name] for name in _NEXT_KEYS)) if whole else None,
        former=parts.get(_FORMER_KEY),
        changed_at=changed_at,
    )


def _made_at(pair: Pair) -> float:
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    return certificate.not_valid_before_utc.timestamp() + BACKDATED_SECONDS


def _and_its_names(wanted: frozenset[str], pair: Pair) -> list[str]:
    """The names that are wanted, then those of a pair: replicas that differ would replace each other's for ever."""
    try:
        known = _names_of(x509.load_pem_x509_certificate(pair.certificate))
    except ValueError:
        known = frozenset()
    return [*sorted(wanted), *sorted(known - wanted)][:MAX_NAMES]


def _normal(name: str) -> str:
    """The one way to write a name, as it is read back from a certificate."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def _names_of(certificate: x509.Certificate) -> frozenset[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    addresses = (str(address) for address in found.get_values_for_type(x509.IPAddress))
    return frozenset([*found.get_values_for_type(x509.DNSName), *addresses])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise CertificateError(f"webhook_name = {name!r} is neither a DNS name nor an address") from error


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signing_key: ec.EllipticCurvePrivateKey,
    serial: int,
    start: dt.datetime,
    end: dt.datetime,
) -> x509.CertificateBuilder:
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(signer, critical=False)
    )
