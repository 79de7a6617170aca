"""Certificates of the webhook: who accepts them, and how one follows the other without a gap."""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from msgspec import structs

from harness.handshake import shake_hands
from stowage.run.certificates import (
    DAY_SECONDS,
    MAX_NAMES,
    CertificateError,
    Keys,
    Lifetimes,
    Pair,
    advance,
    expires_at,
    from_secret,
    issue,
    serves,
    to_secret,
)
from stowage.run.webhook_tls import ServingContext

NOW = time.time()  # noqa: TID251 - the handshakes go by the clock of this machine
NAME = "stowage-webhook.stowage-system.svc"
TIMES = Lifetimes()


def serving(pair: Pair) -> ssl.SSLContext:
    context = ServingContext()
    context.use(pair)
    return context.ssl


def begun(keys: Keys | None, now: float, *names: str, published: bool = True) -> Keys:
    return advance(keys, names or (NAME,), now, TIMES, published=published)


@pytest.mark.parametrize("name", [NAME, "127.0.0.1", "::1"])
def test_a_client_that_trusts_the_authority_accepts_every_name(name: str) -> None:
    pair = issue([NAME, "127.0.0.1", "::1"], NOW, DAY_SECONDS)
    shown = shake_hands(serving(pair), pair.authority, name)
    assert shown.not_valid_after_utc.timestamp() == int(NOW + DAY_SECONDS)
    assert serves(pair, [name], NOW)


def test_other_names_and_other_authorities_are_refused() -> None:
    pair, other = issue([NAME], NOW, DAY_SECONDS), issue([NAME], NOW, DAY_SECONDS)
    for bundle, name in ((pair.authority, "elsewhere.svc"), (other.authority, NAME)):
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(serving(pair), bundle, name)
    assert not serves(pair, ["elsewhere.svc"], NOW)
    assert not serves(structs.replace(pair, authority=other.authority), [NAME], NOW)
    assert shake_hands(serving(pair), other.authority + pair.authority, NAME)


def test_the_authority_s_key_is_kept_nowhere() -> None:
    keys = begun(begun(None, NOW), NOW + 61 * DAY_SECONDS)
    assert keys.following is not None
    stored = {base64.b64decode(part) for part in to_secret(keys).values()}
    private = [serialization.load_pem_private_key(one, None).public_key() for one in stored if b"PRIVATE" in one]
    authorities = [x509.load_pem_x509_certificate(pair.authority) for pair in (keys.serving, keys.following)]
    assert len(private) == 2
    assert not any(authority.public_key() == key for authority in authorities for key in private)


@pytest.mark.parametrize("names", [[], [""], ["bücher.example"]], ids=["no name", "an empty one", "none of DNS"])
def test_what_is_no_name_is_told(names: list[str]) -> None:
    with pytest.raises(CertificateError, match="name"):
        issue(names, NOW, DAY_SECONDS)


def test_the_stages_of_a_rotation() -> None:
    hour, first = TIMES.overlap, begun(None, NOW)
    due = NOW + TIMES.renew_after
    assert begun(first, due - 1) is first, "nothing happens before its time"
    announced = begun(first, due)
    assert announced.following is not None
    assert announced.serving == first.serving
    assert announced.bundle == first.serving.authority + announced.following.authority
    assert begun(announced, due + hour - 1) is announced, "every replica and API server hears of it first"
    changed = begun(announced, due + hour)
    assert (changed.serving, changed.former) == (announced.following, first.serving.authority)
    assert begun(changed, due + 2 * hour - 1) is changed, "another replica may serve the former one"
    retired = begun(changed, due + 2 * hour)
    assert (retired.bundle, retired.following) == (changed.serving.authority, None)
    assert expires_at(first.serving.certificate) - (due + hour) > 28 * DAY_SECONDS, "well before the end"


def test_no_stage_begins_while_api_servers_were_not_told_of_the_last_one() -> None:
    first = begun(None, NOW)
    assert begun(first, NOW + TIMES.renew_after, published=False) is first
    announced = begun(first, NOW + TIMES.renew_after)
    assert begun(announced, NOW + TIMES.renew_after + DAY_SECONDS, published=False) is announced


def test_through_a_year_replicas_and_api_servers_that_are_one_stage_apart_agree() -> None:
    keys, changes = begun(None, NOW), 0
    for hour in range(0, 365 * 24, 7):
        now = NOW + hour * 3600
        after = begun(keys, now)
        for shown in (keys, after):
            assert serves(shown.serving, [NAME], now)
            assert shown.serving.authority in keys.bundle
            assert shown.serving.authority in after.bundle
        changes += after.serving != keys.serving
        keys = after
    assert changes == 6


def other_key(keys: Keys) -> Keys:
    other = issue([NAME], NOW, DAY_SECONDS)
    return structs.replace(keys, serving=structs.replace(keys.serving, key=other.key))


def garbled(keys: Keys) -> Keys:
    return structs.replace(keys, serving=structs.replace(keys.serving, certificate=b"-----BEGIN nothing"))


@pytest.mark.parametrize(
    ("spoil", "now"),
    [
        pytest.param(lambda keys: keys, NOW + 91 * DAY_SECONDS, id="it has ended"),
        pytest.param(lambda keys: keys, NOW - DAY_SECONDS, id="it was made by a clock that was ahead"),
        pytest.param(other_key, NOW, id="the key is another one's"),
        pytest.param(garbled, NOW, id="it cannot be read"),
    ],
)
def test_what_nobody_trusts_is_replaced_at_once(spoil: Callable[[Keys], Keys], now: float) -> None:
    keys = spoil(begun(None, NOW))
    fresh = begun(keys, now, published=False)
    assert serves(fresh.serving, [NAME], now)
    assert fresh.former == keys.serving.authority


def test_an_announced_pair_is_the_first_choice_when_the_present_one_ends() -> None:
    announced = begun(begun(None, NOW), NOW + TIMES.renew_after)
    late = begun(announced, NOW + 91 * DAY_SECONDS, published=False)
    assert late.serving == announced.following


def test_an_announced_pair_that_is_of_no_use_is_dropped_and_made_again() -> None:
    announced = begun(begun(None, NOW), NOW + TIMES.renew_after)
    assert announced.following is not None
    spoilt = structs.replace(announced, following=structs.replace(announced.following, key=b""))
    now = NOW + TIMES.renew_after + TIMES.overlap
    dropped = begun(spoilt, now)
    assert (dropped.serving, dropped.following) == (announced.serving, None)
    assert begun(dropped, now + TIMES.overlap).following is not None


def test_replicas_that_are_called_by_different_names_do_not_replace_each_other() -> None:
    first = begun(None, NOW, "a.svc")
    both = begun(first, NOW, "b.svc")
    assert serves(both.serving, ["a.svc", "b.svc"], NOW)
    assert begun(both, NOW, "a.svc") is both


def test_names_are_compared_as_a_certificate_has_them() -> None:
    first = begun(None, NOW, "Stowage.svc", "0:0:0:0:0:0:0:1")
    assert begun(first, NOW, "Stowage.svc", "0:0:0:0:0:0:0:1") is first


def test_a_crowd_of_names_does_not_push_out_the_one_that_is_wanted() -> None:
    crowded = begun(None, NOW, *(f"a{number}.svc" for number in range(MAX_NAMES)))
    assert serves(begun(crowded, NOW, NAME).serving, [NAME], NOW)


def test_what_is_stored_is_read_back_as_it_was() -> None:
    first = begun(None, float(int(NOW)))
    announced = begun(first, int(NOW) + TIMES.renew_after)
    changed = begun(announced, int(NOW) + TIMES.renew_after + TIMES.overlap)
    for keys in (first, announced, changed):
        assert from_secret(to_secret(keys)) == keys


def test_a_stage_begins_no_later_for_having_been_stored() -> None:
    stored = from_secret(to_secret(structs.replace(begun(None, NOW), changed_at=1e9 + 0.9)))
    assert stored is not None
    assert stored.changed_at == 1e9


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({}, id="an empty Secret"),
        pytest.param({"tls.crt": "", "tls.key": "", "ca.crt": ""}, id="empty fields"),
        pytest.param({"tls.crt": "YQ==", "tls.key": "YQ=="}, id="no authority"),
        pytest.param({"tls.crt": "%%%", "tls.key": "YQ==", "ca.crt": "YQ=="}, id="no base64"),
        pytest.param({"tls.crt": "YQ==", "tls.key": "YQ==", "ca.crt": "YQ==", "changed-at": "eA=="}, id="no time"),
    ],
)
def test_what_is_no_whole_pair_is_none(data: dict[str, str]) -> None:
    assert from_secret(data) is None


def test_a_new_certificate_is_shown_to_new_connections_and_the_old_one_goes_on() -> None:
    first, second = issue([NAME], NOW, DAY_SECONDS), issue([NAME], NOW, 2 * DAY_SECONDS)
    told: list[float] = []
    context = ServingContext(told.append)
    assert not context.loaded
    live = context.ssl
    for pair in (first, first, second):
        context.use(pair)
        shown = shake_hands(live, first.authority + second.authority, NAME)
        assert shown == x509.load_pem_x509_certificate(pair.certificate)
    assert told == [int(NOW + DAY_SECONDS), int(NOW + 2 * DAY_SECONDS)], "once each"


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda pair: structs.replace(pair, key=issue([NAME], NOW, 1).key), id="another one's key"),
        pytest.param(lambda pair: structs.replace(pair, key=b"nothing"), id="no key"),
        pytest.param(lambda pair: structs.replace(pair, certificate=b"nothing"), id="no certificate"),
    ],
)
def test_a_pair_of_no_use_leaves_the_present_one_alone(spoil: Callable[[Pair], Pair]) -> None:
    first, second = issue([NAME], NOW, DAY_SECONDS), issue([NAME], NOW, DAY_SECONDS)
    context = ServingContext()
    context.use(first)
    bad = spoil(second)
    for _ in range(2):
        with pytest.raises(CertificateError):
            context.use(bad)
    shown = shake_hands(context.ssl, first.authority, NAME)
    assert shown == x509.load_pem_x509_certificate(first.certificate)
