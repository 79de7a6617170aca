"""Where the facts of a command come from: a dump or the live cluster, and which policy applies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stowage.cli.errors import InputError
from stowage.cli.printing import progress, remark
from stowage.cli.times import timestamp_seconds

if TYPE_CHECKING:
    from stowage.api.packing_policy import PackingPolicy
    from stowage.transport.api import Api
    from stowage_scheduler.kube.dump import Dump

MAX_DUMP_BYTES = 1_000_000_000
MAX_POLICY_BYTES = 1_000_000


def load(file: Path | None, now: str | None, kubeconfig: str | None, context: str | None) -> Dump:
    """Facts from a dump, or from the cluster when no file is given.

    "Now" is `now`, else the newest timestamp in the file, else the API server's time for a live cluster.

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
    from stowage.cli.server_time import server_time

    async def read(api: Api) -> tuple[dict[str, Any], float]:
        return await read_list(api), await server_time(api)

    with progress("reading the cluster"):
        document, present = with_cluster(kubeconfig, context, read)
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


class Chosen(msgspec.Struct, frozen=True):
    """The policy that a command answers for (None: there is none), and the nodes that other policies hold."""

    policy: PackingPolicy | None = None
    held_by_others: frozenset[str] = frozenset()


def choose(wanted: str | None, facts: Dump) -> Chosen:
    """The policy of a command: a file, one of the dump's or the cluster's by name, or else the one of highest rank.

    Args:
        wanted: `--policy`: a name, or a path of a YAML or JSON file.
        facts: the cluster and its policies.

    Raises:
        InputError: no such policy, or it is malformed.
    """
    stored, faults = _stored(facts)
    policy = _policy(wanted, stored, faults)
    for name, fault in faults.items():  # as the operator does
        if policy is None or name != policy.name:
            remark(f"left out: {fault}")
    if policy is None:
        return Chosen()
    from stowage.decide.policy_words import not_followed_in
    from stowage.decide.scope import scopes

    unfollowed = not_followed_in(policy)
    if unfollowed:
        remark(f"policy {policy.name}: {unfollowed}")
    # a file stands in for the policy of the same name
    others = [one for name, one in stored.items() if name != policy.name]
    return Chosen(policy, frozenset(scopes([policy, *others], facts.snapshot.nodes)[policy.name].lost))


def readable_policies(facts: Dump) -> list[PackingPolicy]:
    """The policies of a dump or cluster, without those that can not be read: `choose` speaks of them."""
    return list(_stored(facts)[0].values())


def _stored(facts: Dump) -> tuple[dict[str, PackingPolicy], dict[str, InputError]]:
    """The policies by name, and what is wrong with each that can not be read."""
    if not facts.policies:
        return {}, {}
    from stowage.api.packing_policy import PackingPolicy

    found: dict[str, PackingPolicy] = {}
    faults: dict[str, InputError] = {}
    for name, document in _by_name(facts.policies).items():
        try:
            found[name] = _read(PackingPolicy.parse_stored, document, name)
        except InputError as fault:
            faults[name] = fault
    return found, faults


def _by_name(found: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {_name(document): document for document in found}


def _name(document: dict[str, Any]) -> str:
    metadata = document.get("metadata")
    return str(metadata.get("name")) if isinstance(metadata, dict) else "without a name"


def _policy(
    wanted: str | None, stored: Mapping[str, PackingPolicy], faults: Mapping[str, InputError]
) -> PackingPolicy | None:
    if wanted is not None and (Path(wanted).suffix in {".yaml", ".yml", ".json"} or Path(wanted).is_file()):
        from stowage.api.packing_policy import PackingPolicy

        return _read(PackingPolicy.parse, _policy_document(Path(wanted)), wanted)
    if wanted is not None:
        if wanted in faults:
            raise faults[wanted]
        if wanted not in stored:
            known = ", ".join(sorted({*stored, *faults})) or "none"
            raise InputError(f"--policy {wanted}: no such PackingPolicy and no such file (there are: {known})")
        return stored[wanted]
    if not stored:
        if faults:
            raise next(iter(faults.values()))  # answering as if there were no policy would mislead
        return None
    from stowage.decide.scope import rank

    policies = sorted(stored.values(), key=rank)
    if len(policies) > 1:
        others = ", ".join(policy.name for policy in policies[1:])
        remark(f"planning with PackingPolicy {policies[0].name}; use --policy for {others}")
    return policies[0]


def _read(parse: Callable[[dict[str, Any]], PackingPolicy], document: dict[str, Any], name: str) -> PackingPolicy:
    from stowage.api.resource import InvalidObjectError

    try:
        return parse(document)
    except InvalidObjectError as error:
        raise InputError(f"policy {name}: {error}") from error


def _policy_document(file: Path) -> dict[str, Any]:
    from stowage_scheduler.kube.yaml_documents import YamlError, json_of_yaml

    text = read_bytes(file, MAX_POLICY_BYTES)
    try:
        document = msgspec.json.decode(json_of_yaml(text))
    except (YamlError, msgspec.DecodeError) as error:
        raise InputError(f"{file}: not YAML or JSON that is read: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != "PackingPolicy":
        kind = document.get("kind") if isinstance(document, dict) else type(document).__name__
        raise InputError(f"{file}: kind {str(kind)[:40]!r}: must be a PackingPolicy")
    return document
