"""The processes of a kill sweep: they reach the API server by the fault proxy, and can be killed and restarted."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from faults.oracles import alarms
from faults.proxy import FaultProxy
from faults.scenarios import Scenario, Victim
from harness.control_plane import start_stowage
from stowage.demo.local_cluster import LocalCluster
from stowage.demo.processes import ManagedProcess, free_port
from stowage.demo.second_scheduler import LEASE_NAME, scheduler_configuration
from stowage.transport import Api, NotFound, paths

OPERATOR_LEASE = ("stowage-system", "stowage-sweep")
SCHEDULER_LEASE = ("kube-system", LEASE_NAME)
KILL_SECONDS = 10.0


@dataclass
class Lab:
    """Processes beside one control plane.

    Attributes:
        cluster: the control plane.
        proxy: between it and the processes.
        api: the API server, not by the proxy.
        folder: for logs and configuration.
        operator_arguments: further ones.
    """

    cluster: LocalCluster
    proxy: FaultProxy
    api: Api
    folder: Path
    operator_arguments: tuple[str, ...] = ()
    processes: dict[Victim, ManagedProcess] = field(default_factory=dict)
    _extender_port: int = field(default_factory=free_port)
    _starts: int = 0
    _read: dict[Path, int] = field(default_factory=dict)  # how much of each log was looked at

    def start_all(self, scenario: Scenario) -> None:
        """Starts what a scenario needs and waits until it is ready."""
        if scenario.steering == "Extender":
            self.start(Victim.SCHEDULER)
            self.start(Victim.EXTENDER)
        self.start(Victim.OPERATOR)

    def start_anew(self, scenario: Scenario) -> None:
        """Ends all processes and starts others, after a run that went wrong."""
        self.stop()
        self.processes.clear()
        self.new_alarms()
        self.start_all(scenario)

    def start(self, victim: Victim, *, wait: bool = True) -> ManagedProcess:
        """Starts one of the processes; the solver's workers come with the operator."""
        self._starts += 1
        name = f"{victim.value}-{self._starts:04d}"
        if victim is Victim.SCHEDULER:
            process = self._start_scheduler(name)
            ready = ""
        else:
            port = str(free_port())
            arguments = ["--metrics-port", port]
            if victim is Victim.OPERATOR:
                arguments += ["--lease-name", OPERATOR_LEASE[1], "--solver-workers", "1", *self.operator_arguments]
            else:
                arguments += ["--port", str(self._extender_port)]
            process = start_stowage(
                self.cluster, victim.value, *arguments, logs=self.folder, name=name, environment=self._environment
            )
            ready = f"http://127.0.0.1:{port}/readyz"
        self.processes[victim] = process
        self._read[process.log_file] = 0
        if wait and ready:
            process.wait_until_serving(ready, timeout_seconds=60)
        return process

    @property
    def _environment(self) -> dict[str, str]:
        return {"KUBECONFIG": str(self.proxy.kubeconfig(self.folder))}

    def _start_scheduler(self, name: str) -> ManagedProcess:
        kubeconfig = self.proxy.kubeconfig(self.folder)
        document = scheduler_configuration(kubeconfig, self._extender_port)
        document["leaderElection"]["retryPeriod"] = "500ms"
        configuration = self.folder / f"{name}.yaml"
        configuration.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        command = [
            *(self.cluster.programs / "kube-scheduler", "--config", configuration),
            *("--bind-address", "127.0.0.1", "--secure-port", str(free_port())),
            *("--authentication-kubeconfig", kubeconfig, "--authorization-kubeconfig", kubeconfig),
            *("--authorization-always-allow-paths", "/healthz,/readyz,/livez,/metrics"),
        ]
        return ManagedProcess.start(name, command, folder=self.cluster.folder, logs=self.folder)

    def kill(self, victim: Victim) -> None:
        """`kill -9`; of the solver: all of its worker processes."""
        if victim is Victim.SOLVER:
            self._signal_workers(signal.SIGKILL)
            return
        process = self.processes[victim]
        process.signal(signal.SIGKILL)
        process.wait(KILL_SECONDS)
        process.stop()  # forgets its process id

    def pause_workers(self) -> None:
        """Stops the solver's workers as they are."""
        self._signal_workers(signal.SIGSTOP)

    def _signal_workers(self, number: signal.Signals) -> None:
        for pid in self.workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def workers(self) -> list[int]:
        """Process ids of the solver's workers, and of theirs."""
        return [pid for pid in _descendants(self.processes[Victim.OPERATOR].pid) if _is_worker(pid)]

    async def restart(self, victim: Victim) -> None:
        """Starts a killed process again; what its lease still promises to the dead one is taken back first.

        Else each kill would cost the 15 s of a lease, which is the same wait every time.
        """
        lease = {Victim.OPERATOR: OPERATOR_LEASE, Victim.SCHEDULER: SCHEDULER_LEASE}.get(victim)
        if lease is not None:
            with contextlib.suppress(NotFound):
                await self.api.merge_patch(paths.lease(*lease), {"spec": {"holderIdentity": ""}})
        if victim is not Victim.SOLVER:
            self.start(victim, wait=False)

    def dead(self) -> list[str]:
        """Processes that ended although nobody killed them."""
        return [
            f"{process.name} ended with exit code {process.exit_code}"
            for process in self.processes.values()
            if process.exit_code is not None
        ]

    def new_alarms(self) -> list[str]:
        """What logs tell of defects, since the last call."""
        found: list[str] = []
        for file, offset in self._read.items():
            text = file.read_bytes()[offset:]
            self._read[file] = offset + len(text)
            found += [f"{file.name}: {line}" for line in alarms(text.decode(errors="replace"))]
        return found

    def stop(self) -> None:
        """Ends all processes."""
        for process in reversed(self.processes.values()):
            process.stop()


def _descendants(pid: int) -> Iterator[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    except OSError:
        return
    for child in children:
        yield int(child)
        yield from _descendants(int(child))


def _is_worker(pid: int) -> bool:
    """Whether a child of the operator packs: all do but the tracker of shared resources."""
    try:
        return b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
