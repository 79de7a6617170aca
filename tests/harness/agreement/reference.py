"""What an unmodified kube-scheduler thinks: the set of nodes that pass all of its filters, for each pod.

Its HTTP extender is given exactly those nodes. This one writes them down and answers that none will do. So every pod
stays pending, the cluster stands still, and hundreds of pods can be asked about in one state. Where no node passes,
the extender is not asked; then the pod is marked Unschedulable all the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import yaml
from aiohttp import web

from harness.agreement.vocabulary import SCHEDULER
from harness.large_cluster import BareCluster
from harness.waiting import eventually
from stowage.demo.processes import ManagedProcess, free_port
from stowage.transport import paths
from stowage.transport.api import Api

ANSWER_SECONDS = 120.0
_LARGEST_REQUEST = 2**26


@dataclass
class Recorder:
    """An extender of kube-scheduler that refuses every node.

    Attributes:
        port: of 127.0.0.1.
        passed: by UID of the pod, the nodes that passed all filters when it was first looked at.
    """

    port: int
    passed: dict[str, frozenset[str]] = field(default_factory=dict)

    async def _filter(self, request: web.Request) -> web.Response:
        arguments = msgspec.json.decode(await request.read())
        self.passed.setdefault(
            _lowered(arguments, "pod")["metadata"]["uid"], frozenset(_lowered(arguments, "nodenames"))
        )
        return web.json_response({"NodeNames": [], "FailedNodes": {}, "Error": ""})


def _lowered(document: Mapping[str, Any], name: str) -> Any:
    """A field, however it is written: Go's field names are not those of the API."""
    return next(value for key, value in document.items() if key.lower() == name)


@contextlib.asynccontextmanager
async def recorder() -> AsyncIterator[Recorder]:
    """The extender, listening."""
    made = Recorder(free_port())
    app = web.Application(client_max_size=_LARGEST_REQUEST)
    app.add_routes([web.post("/filter", made._filter)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", made.port).start()
        yield made
    finally:
        await runner.cleanup()


def configuration(kubeconfig: str, port: int) -> dict[str, Any]:
    """kube-scheduler as it is, but that it asks the extender, looks at every node and preempts nobody."""
    profile = {
        "schedulerName": SCHEDULER,
        "plugins": {"postFilter": {"disabled": [{"name": "DefaultPreemption"}]}},
    }
    extender = {
        "urlPrefix": f"http://127.0.0.1:{port}",
        "filterVerb": "filter",
        "nodeCacheCapable": True,
        "ignorable": False,
        "httpTimeout": "30s",
    }
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": kubeconfig, "qps": 5000, "burst": 10000},
        "leaderElection": {"leaderElect": False},
        "parallelism": 2,
        "percentageOfNodesToScore": 100,
        "profiles": [profile],
        "extenders": [extender],
    }


async def feasible_by_scheduler(bare: BareCluster, api: Api) -> dict[str, frozenset[str]]:
    """For each pod that waits, by name: the nodes that a fresh kube-scheduler would choose from.

    A fresh one, for it knows all that stands before it looks at the first pod. It ends with the answer.

    Raises:
        AssertionError: not every pod got an answer.
    """
    async with recorder() as listening:
        file = bare.cluster.folder / "agreement.yaml"
        file.write_text(yaml.safe_dump(configuration(str(bare.cluster.kubeconfig), listening.port)), encoding="utf-8")
        command = [bare.cluster.programs / "kube-scheduler", "--config", file, "--secure-port", "0"]
        with ManagedProcess.start("agreement", command, folder=bare.cluster.folder) as process:

            async def answered() -> dict[str, str]:
                assert process.exit_code is None, process.log_tail()
                waiting = [pod for pod in (await api.get(paths.PODS))["items"] if "nodeName" not in pod["spec"]]
                missing = [pod["metadata"]["name"] for pod in waiting if not _is_refused(pod)]
                assert not missing, f"no answer for {len(missing)} pods: {missing[:5]}; {process.log_tail(5)}"
                return {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in waiting}

            names = await eventually(answered, timeout_seconds=ANSWER_SECONDS, what="kube-scheduler's answers")
    return {name: listening.passed.get(uid, frozenset()) for uid, name in names.items()}


def _is_refused(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(entry["type"] == "PodScheduled" and entry["status"] == "False" for entry in conditions)
