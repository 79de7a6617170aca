"""`stowage dump`: the cluster as a file that `plan -f`, `why -f` and `top -f` read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stowage.cli.options import ContextOption, KubeconfigOption


def dump(
    *,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write to this file. Default: standard output.", metavar="FILE"),
    ] = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Write what decides about packing as a Kubernetes List in JSON, without secrets and environment variables."""
    from stowage.cli.cluster import read_list, with_cluster
    from stowage.cli.printing import progress, remark
    from stowage_scheduler.kube.redact import redact

    with progress("reading the cluster"):
        document = redact(with_cluster(kubeconfig, context, read_list))
    if output is None:
        write_list(document, typer.get_text_stream("stdout"))
        return
    with output.open("w", encoding="utf-8") as file:
        write_list(document, file)
    remark(f"{output}: {len(document['items'])} objects")


def write_list(document: dict[str, Any], file: Any) -> None:  # noqa: ANN401
    """Writes a List, one object per line: large enough to compress well, small enough to compare."""
    import json

    file.write('{"apiVersion": "v1", "kind": "List", "items": [\n')
    file.write(",\n".join(json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in document["items"]))
    file.write("\n]}\n")
