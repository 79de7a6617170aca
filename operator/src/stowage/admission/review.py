"""AdmissionReview v1 as values: what the API server asks of a webhook, and how it is answered."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import Struct

from stowage.admission.verdict import Verdict
from stowage.api.resource import InvalidObjectError

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"
MAX_WARNING: Final = 256
"""Characters of one warning that a client is sure to see."""
MAX_WARNINGS: Final = 4096
"""Characters of all warnings together that the API server passes on."""

Document = dict[str, Any]


class Operation(StrEnum):
    """What is done to an object."""

    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    CONNECT = "CONNECT"


class Kind(Struct, frozen=True):
    """The kind of an object."""

    group: str
    version: str
    kind: str


class Request(Struct, frozen=True, rename="camel"):
    """One question: may this object be stored?

    Attributes:
        uid: of the question; the answer repeats it.
        kind: of the object.
        operation: what is done to it.
        name: of the object; empty while the API server has not made one up.
        sub_resource: such as `status`; empty for the object itself.
        object: as it shall be stored; None where it is deleted.
        old_object: as it is stored; None where it is created.
        dry_run: nothing will be stored, whatever the answer.
    """

    uid: str
    kind: Kind
    operation: Operation
    name: str = ""
    sub_resource: str = ""
    object: Document | None = None
    old_object: Document | None = None
    dry_run: bool = False


class _Review(Struct, rename="camel"):
    api_version: str
    kind: str
    request: Request


class UnreadableReviewError(ValueError):
    """A body that is no AdmissionReview of version v1; the message names the field."""


_decoder = msgspec.json.Decoder(_Review)


def decode(body: bytes) -> Request:
    """The question in the body of a request.

    Raises:
        UnreadableReviewError: it is no AdmissionReview v1 with a request.
    """
    try:
        review = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableReviewError(f"the body is no {KIND} of {API_VERSION} with a request: {error}") from error
    if (review.api_version, review.kind) != (API_VERSION, KIND):
        given = f"{review.kind} of {review.api_version}"
        raise UnreadableReviewError(
            f"the body is a {given}: only {KIND} of {API_VERSION} is answered; set admissionReviewVersions: [v1]"
        )
    return review.request


def answer(request: Request, verdict: Verdict) -> Document:
    """The AdmissionReview that answers `request`; a refusal carries a Status with one cause for each field."""
    response: Document = {"uid": request.uid, "allowed": verdict.allowed}
    if not verdict.allowed:
        name = request.name or "(without a name)"
        words = str(InvalidObjectError(request.kind.kind, name, tuple(one.told for one in verdict.problems)))
        causes = [
            {"reason": "FieldValueInvalid", "field": one.field, "message": f"{one.value}: {one.rule}"}
            for one in verdict.problems
        ]
        details = {"group": request.kind.group, "kind": request.kind.kind, "name": request.name, "causes": causes}
        response["status"] = {"status": "Failure", "code": 422, "reason": "Invalid", "message": words}
        response["status"]["details"] = details
    warnings = list(_fitting(verdict.warnings))
    if warnings:
        response["warnings"] = warnings
    return {"apiVersion": API_VERSION, "kind": KIND, "response": response}


def _fitting(warnings: tuple[str, ...]) -> Iterator[str]:
    """The warnings as they can be sent: headers hold no control characters, and little text."""
    left = MAX_WARNINGS
    for warning in warnings:
        text = "".join(" " if unicodedata.category(one).startswith("C") else one for one in warning)
        text = text if len(text) <= MAX_WARNING else text[: MAX_WARNING - 1] + "…"
        left -= len(text)
        if left < 0:
            return
        yield text
