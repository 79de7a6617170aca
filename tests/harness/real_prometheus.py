"""Prometheus and Thanos as processes, where they are on the path: what is asked of them is asked over HTTP."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from stowage.demo.processes import ManagedProcess, free_port

STARTS_WITHIN_SECONDS = 60.0


def needs(*programs: str) -> None:
    """Skip the test unless all of these programs are there."""
    missing = [one for one in programs if shutil.which(one) is None]
    if missing:
        pytest.skip(f"there is no {' and no '.join(missing)} on PATH")


def start_prometheus(
    folder: Path, scrapes: Sequence[Mapping[str, Any]] = (), external_labels: Mapping[str, str] | None = None
) -> tuple[ManagedProcess, str]:
    """A Prometheus on the blocks of `folder`/data, and its address.

    Args:
        folder: of its files.
        scrapes: as `scrape_configs` has them.
        external_labels: by which a querier knows it.
    """
    port = free_port()
    settings = {"global": {"external_labels": dict(external_labels or {})}, "scrape_configs": [*map(dict, scrapes)]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    return _started("prometheus", command, folder, port)


def write_blocks(folder: Path, exposition: str) -> None:
    """Make blocks of `folder`/data of samples with their times, in the OpenMetrics format."""
    (folder / "past.txt").write_text(exposition)
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "past.txt", "data"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def start_sidecar(folder: Path, prometheus: str) -> tuple[ManagedProcess, int]:
    """Thanos beside a Prometheus whose blocks are in `folder`/data, and its gRPC port."""
    port, grpc_port = free_port(), free_port()
    command = [
        *("thanos", "sidecar"),
        f"--prometheus.url={prometheus}",
        f"--tsdb.path={folder}/data",
        f"--http-address=127.0.0.1:{port}",
        f"--grpc-address=127.0.0.1:{grpc_port}",
    ]
    return _started("sidecar", command, folder, port)[0], grpc_port


def start_query(
    folder: Path, name: str, grpc_ports: Iterable[int], *options: str, prefix: str = ""
) -> tuple[ManagedProcess, str]:
    """A Thanos Query over sidecars, and its address, with `prefix` as its path."""
    port, grpc_port = free_port(), free_port()
    command = [
        *("thanos", "query"),
        f"--http-address=127.0.0.1:{port}",
        f"--grpc-address=127.0.0.1:{grpc_port}",
        f"--web.route-prefix={prefix}",
        *(f"--endpoint=127.0.0.1:{one}" for one in grpc_ports),
        *options,
    ]
    return _started(name, command, folder, port, prefix)


def _started(
    name: str, command: Sequence[str], folder: Path, port: int, prefix: str = ""
) -> tuple[ManagedProcess, str]:
    process = ManagedProcess.start(name, command, folder=folder, logs=folder)
    try:
        process.wait_until_serving(f"http://127.0.0.1:{port}/-/ready", timeout_seconds=STARTS_WITHIN_SECONDS)
    except BaseException:
        process.stop()
        raise
    return process, f"http://127.0.0.1:{port}{prefix}"
