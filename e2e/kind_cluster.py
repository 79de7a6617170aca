"""A kind cluster: containers as nodes, with real kubelets."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from programs import run

CLUSTERS = Path(__file__).resolve().parent / "clusters"
READY_SECONDS = 180


@dataclass(frozen=True)
class KindCluster:
    """A cluster by its name, started or not."""

    name: str
    kubeconfig: Path

    def create(self, configuration: str, shared: Path, shared_on_nodes: str) -> None:
        """Start it with `clusters/CONFIGURATION.yaml` and wait until all of it is Ready.

        The node image is `$KIND_NODE_IMAGE`, else kind's own.

        Args:
            configuration: name of the file, without its ending.
            shared: a folder of this machine that every node has.
            shared_on_nodes: where it is there.
        """
        document = yaml.safe_load((CLUSTERS / f"{configuration}.yaml").read_text(encoding="utf-8"))
        for node in document["nodes"]:
            mount = {"hostPath": str(shared), "containerPath": shared_on_nodes}
            node.setdefault("extraMounts", []).append(mount)
        file = self.kubeconfig.with_name(f"{configuration}.yaml")
        file.write_text(yaml.safe_dump(document), encoding="utf-8")
        image = os.environ.get("KIND_NODE_IMAGE")
        run(
            *("kind", "create", "cluster", "--name", self.name, "--config", file, "--kubeconfig", self.kubeconfig),
            *(("--image", image) if image else ()),
            folder=CLUSTERS,  # paths of the file's extraMounts are relative to it
        )
        for node in self.nodes():
            self.wait("condition=Ready", f"node/{node}")
        self.wait("condition=Ready", "pods", "--all", "--namespace", "kube-system")

    def delete(self) -> None:
        """End it and all that ran there."""
        run("kind", "delete", "cluster", "--name", self.name)

    def nodes(self) -> list[str]:
        """Names of all nodes, the control plane first; they are the names of containers too."""
        names = run("kind", "get", "nodes", "--name", self.name).split()
        return sorted(names, key=lambda name: (not name.endswith("control-plane"), name))

    @property
    def workers(self) -> list[str]:
        """Names of the nodes that take pods."""
        return self.nodes()[1:]

    @property
    def control_plane(self) -> str:
        """The node with the API server."""
        return self.nodes()[0]

    def kubectl(self, *arguments: str | Path, timeout_seconds: float = 300) -> str:
        """What kubectl printed."""
        return run("kubectl", "--kubeconfig", self.kubeconfig, *arguments, timeout_seconds=timeout_seconds)

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get … --output json`."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "--output", "json"))
        return found

    def wait(self, condition: str, *what: str, timeout_seconds: int = READY_SECONDS) -> None:
        """`kubectl wait`."""
        self.kubectl(
            *("wait", f"--for={condition}", f"--timeout={timeout_seconds}s", *what),
            timeout_seconds=timeout_seconds + 30,
        )

    def pause(self, node: str) -> None:
        """Let nothing on a node go on."""
        run("docker", "pause", node)

    def unpause(self, node: str) -> None:
        """Let it go on."""
        run("docker", "unpause", node)

    def kill(self, node: str, command: str) -> None:
        """SIGKILL to the processes of a node with these words in their command line."""
        self.signal(node, "KILL", command)

    def signal(self, node: str, name: str, command: str) -> None:
        """A signal to the processes of a node with these words in their command line."""
        run("docker", "exec", node, "pkill", "--signal", name, "--full", command)

    def stop(self, node: str) -> None:
        """End a node as if its power were cut."""
        run("docker", "stop", "--time", "0", node)

    def start(self, node: str) -> None:
        """Let it come back."""
        run("docker", "start", node)

    def load(self, image: str, *nodes: str) -> None:
        """Give an image of the local engine to some nodes; by default to all."""
        chosen = ("--nodes", ",".join(nodes)) if nodes else ()
        run("kind", "load", "docker-image", image, "--name", self.name, *chosen)

    def images(self, node: str) -> list[str]:
        """Names of the images that a node has."""
        return run("docker", "exec", node, "ctr", "--namespace", "k8s.io", "images", "list", "--quiet").split()

    def pause_image(self) -> str:
        """An image that every node has, whose container does nothing."""
        return next(name for name in self.images(self.workers[0]) if "/pause:" in name)

    def scheduler_image_everywhere(self) -> None:
        """Give kube-scheduler's image, which the control plane runs, to the workers; they can not always pull it."""
        image = next(name for name in self.images(self.control_plane) if "/kube-scheduler:" in name)
        for worker in self.workers:
            if image in self.images(worker):
                continue
            archive = "/kube-scheduler.tar"  # inside the nodes; their /tmp is hidden from docker cp
            run("docker", "exec", self.control_plane, "ctr", "-n", "k8s.io", "images", "export", archive, image)
            local = self.kubeconfig.with_name("kube-scheduler.tar")
            run("docker", "cp", f"{self.control_plane}:{archive}", local)
            run("docker", "cp", local, f"{worker}:{archive}")
            run("docker", "exec", worker, "ctr", "-n", "k8s.io", "images", "import", archive)
