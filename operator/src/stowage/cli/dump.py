"""`stowage dump`: the cluster as a file that `plan -f`, `why -f` and `top -f` read."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from stowage.cli.options import ContextOption, KubeconfigOption


class Form(StrEnum):
    """Form of a dump; a table could not be read back."""

    JSON = "json"
    YAML = "yaml"


def dump(
    *,
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", help="Write to this file. Default: standard output.", metavar="FILE"),
    ] = None,
    output: Annotated[Form, typer.Option("-o", "--output", help="Form of the dump.")] = Form.JSON,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Write what decides about packing as a Kubernetes List, without secrets and environment variables."""
    from stowage.cli.cluster import read_list, with_cluster
    from stowage.cli.printing import progress, remark
    from stowage_scheduler.counted import counted
    from stowage_scheduler.kube.redact import redact

    with progress("reading the cluster"):
        document = redact(with_cluster(kubeconfig, context, read_list))
    if file is None:
        write_list(document, typer.get_text_stream("stdout"), output)
        return
    with file.open("w", encoding="utf-8") as target:
        write_list(document, target, output)
    remark(f"{file}: {counted(len(document['items']), 'object')}")


def write_list(document: dict[str, Any], file: Any, form: Form = Form.JSON) -> None:  # noqa: ANN401
    """Writes a List; as JSON one object per line: large enough to compress well, small enough to compare."""
    if form is Form.YAML:
        import yaml

        class NoAliases(yaml.SafeDumper):  # a dump with anchors would be refused when it is read
            def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002
                return True

        yaml.dump(document, file, Dumper=NoAliases, sort_keys=False, allow_unicode=True)
        return
    import json

    file.write('{"apiVersion": "v1", "kind": "List", "items": [\n')
    file.write(",\n".join(json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in document["items"]))
    file.write("\n]}\n")
