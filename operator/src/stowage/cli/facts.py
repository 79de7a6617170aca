"""Where the facts of a command come from: a dump or the live cluster, and which policy applies."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stowage.cli.errors import InputError
from stowage.cli.printing import progress, remark
from stowage.cli.times import timestamp_seconds

if TYPE_CHECKING:
    from stowage.api.packing_policy import PackingPolicy
    from stowage_scheduler.kube.dump import Dump

MAX_DUMP_BYTES = 1_000_000_000
MAX_POLICY_BYTES = 1_000_000


def load(file: Path | None, now: str | None, kubeconfig: str | None, context: str | None) -> Dump:
    """Facts from a dump, or from the cluster when no file is given.

    "Now" is `now`, else the newest timestamp in the file, else the present for a live cluster.

    Raises:
        InputError: the file cannot be read.
        DumpError: it is no dump.
        ApiError: the cluster cannot be read.
    """
    from stowage_scheduler.kube.dump import read_dump

    given = timestamp_seconds(now, "--now") if now is not None else None
    if file is not None:
        with progress(f"reading {file}"):
            return read_dump(read_bytes(file, MAX_DUMP_BYTES), now=given)
    from stowage.cli.cluster import read_list, with_cluster

    with progress("reading the cluster"):
        document = with_cluster(kubeconfig, context, read_list)
        present = time.time()  # noqa: TID251 - a command reads the clock once, decisions get it as an argument
        return read_dump(msgspec.json.encode(document), now=given if given is not None else present)


def read_bytes(file: Path, longest: int) -> bytes:
    """The content of a file.

    Raises:
        InputError: it is missing, no file, not readable, or larger than `longest` bytes.
    """
    try:
        size = file.stat().st_size
        if size > longest:
            raise InputError(f"{file}: {size} bytes; at most {longest} are read")
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error


def choose_policy(wanted: str | None, found: list[dict[str, Any]]) -> PackingPolicy | None:
    """The policy of a command: a file, one of those found by name, or by precedence; None when there is none.

    Args:
        wanted: `--policy`: a name, or a path of a YAML or JSON file.
        found: PackingPolicy documents of the dump or the cluster.

    Raises:
        InputError: no such policy, or it is malformed.
    """
    if wanted is not None and (Path(wanted).suffix in {".yaml", ".yml", ".json"} or Path(wanted).is_file()):
        return _parse(_policy_document(Path(wanted)), wanted)
    by_name = {str((document.get("metadata") or {}).get("name")): document for document in found}
    if wanted is not None:
        if wanted not in by_name:
            known = ", ".join(sorted(by_name)) or "none"
            raise InputError(f"--policy {wanted}: no such PackingPolicy and no such file (there are: {known})")
        return _parse(by_name[wanted], wanted)
    if not by_name:
        return None
    from stowage.decide.scope import rank

    policies = sorted((_parse(document, name) for name, document in by_name.items()), key=rank)
    if len(policies) > 1:
        others = ", ".join(policy.name for policy in policies[1:])
        remark(f"planning with PackingPolicy {policies[0].name}; use --policy for {others}")
    return policies[0]


def _parse(document: dict[str, Any], name: str) -> PackingPolicy:
    from stowage.api.packing_policy import PackingPolicy
    from stowage.api.resource import InvalidObjectError

    try:
        return PackingPolicy.parse(document)
    except InvalidObjectError as error:
        raise InputError(f"policy {name}: {error}") from error


def _policy_document(file: Path) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(read_bytes(file, MAX_POLICY_BYTES))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{file}: not YAML or JSON: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != "PackingPolicy":
        kind = document.get("kind") if isinstance(document, dict) else type(document).__name__
        raise InputError(f"{file}: kind {str(kind)[:40]!r}: must be a PackingPolicy")
    return document
