"""How a process ended, in words that can be compared: code or signal, and the exception if there was one."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_MESSAGE = 2000
"""Characters of an exception's message that are told."""
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_LAST_LINE = re.compile(r"^([A-Za-z_][\w.]*)(?:: (.*))?$")


@dataclass(frozen=True)
class Failure:
    """An exception that ended a process; all empty: none is known."""

    type: str = ""
    message: str = ""

    @property
    def hash(self) -> str:
        """Of type and message without numbers and addresses: equal for the same mistake; empty when none is known."""
        if not self.type:
            return ""
        plain = _NUMBER.sub("N", _ADDRESS.sub("A", self.message))
        return hashlib.sha256(f"{self.type}\n{plain}".encode("utf-8", "replace")).hexdigest()[:16]


def code_and_signal(status: int) -> tuple[int | None, int | None]:
    """(exit code, None) or (None, signal) of a return code in subprocess's form, in which signals are negative."""
    return (None, -status) if status < 0 else (status, None)


def shell_code(code: int | None, signal: int | None) -> int:
    """The code that a shell would give: 128 + signal; 1 when nothing is known."""
    if signal is not None:
        return 128 + signal
    return 1 if code is None else code


def failure_of(own: str, torch: str, error_lines: Sequence[str]) -> Failure:
    """The exception, from the error file, else torch's error file, else the last traceback on standard error."""
    found = _own_failure(own) or _torch_failure(torch) or traceback_failure(error_lines) or Failure()
    return Failure(_sound(found.type), _sound(found.message))


def _sound(text: str) -> str:
    """Without halves of surrogate pairs, such as names of files that are not UTF-8 have: they cannot be sent."""
    return text.encode("utf-8", "replace").decode()


def traceback_failure(lines: Sequence[str]) -> Failure | None:
    """The exception of the last Python traceback in some lines of output."""
    begin = max(
        (at for at, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")), default=-1
    )
    if begin < 0:
        return None
    for at in range(begin + 1, len(lines)):
        line = lines[at]
        if not line or line[0].isspace():
            continue
        found = _LAST_LINE.match(line)
        if found is None:
            return None
        rest = [more for more in lines[at + 1 : at + 5] if more.strip()]
        return Failure(found[1].rpartition(".")[2], "\n".join([found[2] or "", *rest])[:MAX_MESSAGE].strip())
    return None


def _own_failure(text: str) -> Failure | None:
    document = _object(text)
    kind = document.get("type") if document else None
    if not document or not isinstance(kind, str) or not kind:
        return None
    return Failure(kind[:200], str(document.get("message", ""))[:MAX_MESSAGE])


def _torch_failure(text: str) -> Failure | None:
    """From `{"message": {"message": "ValueError: …", …}}`, as torch.distributed.elastic writes it."""
    document = _object(text)
    if not document:
        return None
    inner = document.get("message")
    said = inner.get("message") if isinstance(inner, dict) else inner
    if not isinstance(said, str) or not said:
        return None
    found = _LAST_LINE.match(said.split("\n", 1)[0])
    if found is None:
        return Failure("Error", said[:MAX_MESSAGE])
    return Failure(found[1].rpartition(".")[2], said.partition(": ")[2][:MAX_MESSAGE])


def _object(text: str) -> dict[str, object] | None:
    try:
        document = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
