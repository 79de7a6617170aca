"""Kubelets of simulated nodes, played on this machine: they start and stop what the pods of a job say."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import sys
from pathlib import Path

import stowage_worker
from harness.workbench import Document, Workbench
from stowage.transport import paths


class Kubelets:
    """Starts the programs of a job's pods as their specs say, on this machine."""

    def __init__(self, bench: Workbench, folder: Path, port: int) -> None:
        self.bench = bench
        self.folder = folder
        self.port = port
        self._started: dict[str, asyncio.subprocess.Process] = {}
        self._ends: list[asyncio.Task[None]] = []

    async def coordinator(self, pod: Document) -> None:
        arguments = [one for one in pod["spec"]["containers"][0]["args"] if not one.startswith(("--host", "--port"))]
        command = [*pod["spec"]["containers"][0]["command"][1:], *arguments, "--host=127.0.0.1", f"--port={self.port}"]
        await self._start(
            pod, [sys.executable, *(part.replace("/stowage/secret", str(self.folder)) for part in command)], {}
        )

    async def start_all(self, job: str) -> None:
        """Start what the pods of a job say, where that was not done yet; all of them have nodes."""
        secret = paths.named(paths.in_namespace(paths.SECRETS, self.bench.namespace), f"{job}-token")
        token = (await self.bench.api.get(secret))["data"]["token"]
        (self.folder / "token").write_bytes(base64.b64decode(token))
        for pod in await self.bench.pods():
            if pod["metadata"]["name"] not in self._started:
                is_seat = "stowage.dev/seat" in pod["metadata"]["labels"]
                await (self.seat(pod) if is_seat else self.coordinator(pod))

    async def stop(self, pod: Document) -> int:
        """Stop a pod as a kubelet does: first its hook, then SIGTERM; the exit code of the hook."""
        [container] = pod["spec"]["containers"]
        hook = self._of_worker(container["lifecycle"]["preStop"]["exec"]["command"])
        running = await asyncio.create_subprocess_exec(*hook, env=self._environment(pod))
        code = await running.wait()
        process = self._started[pod["metadata"]["name"]]
        process.terminate()
        await process.wait()
        return code

    async def seat(self, pod: Document) -> None:
        """Start the supervisor of a seat."""
        [container] = pod["spec"]["containers"]
        await self._start(pod, self._of_worker(container["command"]), self._environment(pod))

    def _environment(self, pod: Document) -> dict[str, str]:
        [container] = pod["spec"]["containers"]
        fields = {"metadata.uid": pod["metadata"]["uid"], "status.podIP": "127.0.0.1"}
        fields["spec.nodeName"] = pod["spec"]["nodeName"]
        given = {
            one["name"]: one["value"] if "value" in one else fields[one["valueFrom"]["fieldRef"]["fieldPath"]]
            for one in container["env"]
        }
        own = {
            "STOWAGE_COORDINATOR": f"127.0.0.1:{self.port}",
            "STOWAGE_TOKEN_FILE": str(self.folder / "token"),
            "STOWAGE_CHECKPOINT_DIR": str(self.folder / "checkpoints"),
        }
        return {**os.environ, **given, **own}

    def _of_worker(self, command: list[str]) -> list[str]:
        assert command[:2] == ["python3", "/stowage/worker/stowage_worker"]
        return [sys.executable, str(Path(stowage_worker.__file__).parent), *command[2:]]

    async def _start(self, pod: Document, command: list[str], environment: dict[str, str]) -> None:
        with (self.folder / f"{pod['metadata']['name']}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command, env={**os.environ, **environment}, stdout=log, stderr=asyncio.subprocess.STDOUT
            )
        self._started[pod["metadata"]["name"]] = process
        self._ends.append(asyncio.create_task(self._report(pod["metadata"]["name"], process)))

    async def _report(self, name: str, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        if code == 0:
            path = paths.pod(self.bench.namespace, name) + "/status"
            await self.bench.api.merge_patch(path, {"status": {"phase": "Succeeded"}})

    async def end(self) -> None:
        for task in self._ends:
            task.cancel()
        for process in self._started.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        for process in self._started.values():
            await process.wait()
