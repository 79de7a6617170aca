"""ModelServices on real kubelets, with engines without a model, and loads on them from within the cluster."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

import prometheus_scene
from harness.waiting import eventually
from harness.workbench import Document, Workbench, is_ready
from kind_cluster import KindCluster
from release import Release
from serving_answers import ITL_SECONDS, TTFT_SECONDS, Answers
from stowage.api.names import PREFETCH_LABEL, SERVICE_LABEL
from stowage.transport import paths
from stowage.transport.errors import NotFound

SLOWLY_SECONDS: Final = 180.0
FORGOTTEN_SECONDS: Final = 5.0
"""Proxies may need so long to hear of a pod that does not answer any more."""
PORT: Final = 8000
PROMPT_TOKENS: Final = 200
OUTPUT_TOKENS: Final = 30
COLD_START_SECONDS: Final = 5
PROFILE: Final[Document] = {
    "model": "stand-in",
    "accelerator": "none",
    "kvCacheTokens": 4000,
    "maxRunning": 8,
    "maxBatchedTokens": 512,
    "fitted": {"prefill": {"base": "20", "perToken": "0.2"}, "decode": {"base": "40", "perRequest": "2"}},
}
"""About four requests per second, of these lengths: a cluster on a laptop can be asked for several replicas."""
RESTRICTED: Final[Document] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_LOST_SOON: Final = [
    {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
    for key in ("unreachable", "not-ready")
]


@dataclass
class ServingScene:
    """A namespace for services; pods in it are restricted ones."""

    bench: Workbench
    release: Release
    image: str
    load_node: str
    """Where clients run: no story happens there."""
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def cluster(self) -> KindCluster:
        """Where it is played."""
        return self.release.cluster

    async def begin(self, name: str, roles: list[Document], **spec: Any) -> Service:
        """Apply a service and wait until each role has as many replicas as its `bounds.min`.

        Args:
            name: of the service.
            roles: as in the resource, with templates by `template`.
            spec: further fields.
        """
        bench = self.bench
        label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
        await bench.api.merge_patch(paths.named(paths.NAMESPACES, bench.namespace), label)
        profile = {"metadata": {"name": self.profile}, "spec": PROFILE}
        kind = {"apiVersion": "stowage.dev/v1alpha1", "kind": "PerformanceProfile"}
        await bench.create(paths.PERFORMANCE_PROFILES, {**kind, **profile})
        data = {"profile.yaml": yaml.safe_dump({**kind, **profile})}
        config_maps = f"/api/v1/namespaces/{bench.namespace}/configmaps"
        await bench.api.create(config_maps, {"metadata": {"name": "profile"}, "data": data})
        scale_down = {"stabilization": "10s", "maxPercentPerMinute": 100}
        document = {
            "apiVersion": "stowage.dev/v1alpha1",
            "kind": "ModelService",
            "metadata": {"name": name},
            "spec": {
                "model": {"name": "stand-in"},
                "slo": {"timeToFirstToken": f"{TTFT_SECONDS:g}s", "interTokenLatency": f"{1000 * ITL_SECONDS:g}ms"},
                "scaling": {"scaleDown": scale_down},
                "metrics": {"staleAfter": "15s"},
                "roles": roles,
                **spec,
            },
        }
        await bench.api.create(paths.in_namespace(paths.MODEL_SERVICES, bench.namespace), document)
        service = Service(self, name, roles[0]["variants"][0].get("group", {}).get("size", 1))
        for role in roles:
            await service.until_settled(role.get("bounds", {}).get("min", 1), role.get("name", "unified"))
        return service

    @property
    def profile(self) -> str:
        """The name of the PerformanceProfile, which has no namespace."""
        return f"stand-in-{self.bench.namespace}"

    def role(self, least: int, most: int, *arguments: str, name: str = "unified", image: str | None = None) -> Document:
        """A role of engines, each with a GPU of its own."""
        container = {
            "name": "engine",
            "image": image or self.image,
            "args": ["stand_in.serve", "--profile", "/profile/profile.yaml", *_options(arguments)],
            "ports": [{"containerPort": PORT}],
            "readinessProbe": {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": 1},
            "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
            "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"nvidia.com/gpu": "1"}},
            "securityContext": RESTRICTED,
            "volumeMounts": [{"name": "profile", "mountPath": "/profile", "readOnly": True}],
        }
        spread = {"topologyKey": "kubernetes.io/hostname", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}
        pod = {
            "terminationGracePeriodSeconds": 60,
            "tolerations": _LOST_SOON,
            "topologySpreadConstraints": [{**spread, "labelSelector": {"matchLabels": {"story": name}}}],
            "containers": [container],
            "volumes": [{"name": "profile", "configMap": {"name": "profile"}}],
        }
        annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT)}
        template = {"metadata": {"labels": {"story": name}, "annotations": annotations}, "spec": pod}
        variant = {"name": "gpu", "profile": self.profile, "costPerHour": "1", "template": template}
        return {"name": name, "bounds": {"min": least, "max": most}, "variants": [variant]}

    async def load(self, url: str, shape: str, *, seconds: float, high: float, low: float = 0.0, **more: str) -> Load:
        """Begin to send requests, `low` to `high` per second; keywords are further options of the program."""
        name = f"load-{next(self._numbers)}"
        options = {
            "load": shape,
            "seconds": f"{seconds:g}",
            "low": f"{low:g}",
            "high": f"{high:g}",
            "prompt-tokens": str(PROMPT_TOKENS),
            "output-tokens": str(OUTPUT_TOKENS),
            "ttft-seconds": f"{TTFT_SECONDS:g}",
            "itl-seconds": f"{ITL_SECONDS:g}",
            **{key.replace("_", "-"): value for key, value in more.items()},
        }
        arguments = ["stand_in.load", url, *(part for key, value in options.items() for part in (f"--{key}", value))]
        container = {"name": "load", "image": self.image, "args": arguments, "securityContext": RESTRICTED}
        spec = {"restartPolicy": "Never", "nodeName": self.load_node, "containers": [container]}
        pods = paths.in_namespace(paths.PODS, self.bench.namespace)
        await self.bench.api.create(pods, {"metadata": {"name": name}, "spec": spec})
        load = Load(self, name, f"{shape}, {low:g} to {high:g}/s" if low else f"{shape}, {high:g}/s")
        await load.until("Running", "Succeeded")
        return load

    async def a_node_of(self, service: Service) -> str:
        """One with a replica, and with nobody whom a story needs."""
        cluster, release = self.cluster, self.release
        needed = {self.load_node, prometheus_scene.node(cluster), *release.nodes_of("operator").values()}
        free = sorted(await service.nodes() - needed)
        assert free, "every replica stands beside somebody who is needed"
        return free[0]

    async def end(self) -> None:
        """Delete the services, and wait until nothing of them is left."""
        namespace = self.bench.namespace
        self.cluster.kubectl("delete", "modelservices", "--all", "--namespace", namespace, "--wait=false")

        async def gone() -> bool:
            left = [pod["metadata"]["name"] for pod in await self.bench.pods() if _service_of(pod)]
            assert not left, left
            return True

        await eventually(gone, timeout_seconds=SLOWLY_SECONDS, what="no replica is left")


@dataclass(frozen=True)
class Load:
    """Clients that send requests."""

    scene: ServingScene
    name: str
    about: str

    async def until(self, *phases: str, timeout_seconds: float = SLOWLY_SECONDS) -> None:
        """Wait until its pod is in one of the phases."""

        async def there() -> bool:
            pod = await self.scene.bench.api.get(paths.pod(self.scene.bench.namespace, self.name))
            assert pod["status"].get("phase") in phases, pod["status"]
            return True

        await eventually(there, timeout_seconds=timeout_seconds, what=f"{self.name} is {' or '.join(phases)}")

    async def answers(self) -> Answers:
        """Wait until the last request has its answer."""
        await self.until("Succeeded", "Failed", timeout_seconds=3 * SLOWLY_SECONDS)
        text = self.scene.cluster.kubectl("logs", self.name, "--namespace", self.scene.bench.namespace)
        return Answers(**json.loads(text))


@dataclass(frozen=True)
class Service:
    """One ModelService."""

    scene: ServingScene
    name: str
    pods_each: int = 1
    """Of how many pods a replica is."""

    @property
    def url(self) -> str:
        """Where clients in its namespace ask."""
        return f"http://{self.name}:{PORT}"

    def role_url(self, role: str) -> str:
        """The same for one role."""
        return f"http://{self.name}-{role}:{PORT}"

    @property
    def _path(self) -> str:
        return paths.named(paths.in_namespace(paths.MODEL_SERVICES, self.scene.bench.namespace), self.name)

    async def document(self) -> Document:
        """As the API server has it."""
        found: Document = await self.scene.bench.api.get(self._path)
        return found

    async def status(self) -> Document:
        """Of it."""
        found: Document = (await self.document()).get("status", {})
        return found

    async def role(self, name: str = "unified") -> Document:
        """What the status says of a role."""
        roles: list[Document] = (await self.status()).get("roles", [])
        return next((one for one in roles if one["name"] == name), {})

    async def condition(self, kind: str) -> Document:
        """A condition of the status; {}: it has none of that type."""
        conditions: list[Document] = (await self.status()).get("conditions", [])
        return next((one for one in conditions if one["type"] == kind), {})

    async def patch(self, spec: Mapping[str, Any]) -> None:
        """Change fields of the spec."""
        await self.scene.bench.api.merge_patch(self._path, {"spec": spec})

    async def pods(self, role: str | None = None) -> list[Document]:
        """Those of its replicas that shall stay."""
        return [
            pod
            for pod in await self.scene.bench.pods()
            if _service_of(pod) == self.name
            and PREFETCH_LABEL not in pod["metadata"]["labels"]
            and (role is None or pod["metadata"]["labels"].get("stowage.dev/role") == role)
            and "deletionTimestamp" not in pod["metadata"]
        ]

    async def nodes(self) -> set[str]:
        """Where they are."""
        return {pod["spec"]["nodeName"] for pod in await self.pods() if "nodeName" in pod["spec"]}

    async def until(
        self,
        holds: Callable[[Document], bool],
        what: str,
        role: str = "unified",
        timeout_seconds: float = 2 * SLOWLY_SECONDS,
    ) -> Document:
        """Wait until the status says something of a role; what it said."""

        async def there() -> Document:
            found = await self.role(role)
            assert holds(found), brief(await self.status())
            return found

        return await eventually(there, timeout_seconds=timeout_seconds, what=f"{self.name}: {what}")

    async def until_settled(
        self, replicas: int, role: str = "unified", timeout_seconds: float = SLOWLY_SECONDS
    ) -> None:
        """Wait until a role shall have so many replicas, has them all, and no pod leaves."""

        async def settled() -> bool:
            found = await self.role(role)
            counts = {key: found.get(key, 0) for key in ("desired", "ready", "starting", "draining")}
            assert counts == {"desired": replicas, "ready": replicas, "starting": 0, "draining": 0}, brief(
                await self.status()
            )
            pods = await self.pods(role)
            assert len(pods) == replicas * self.pods_each, [pod["metadata"]["name"] for pod in pods]
            assert all(is_ready(pod) for pod in pods)
            return True

        what = f"{self.name}: {role} has settled at {replicas}"
        await eventually(settled, timeout_seconds=timeout_seconds, what=what)

    async def scale(self, replicas: int) -> None:
        """Set their number by hand, as a user does, and wait until it is reached."""
        namespace = self.scene.bench.namespace
        number = f"--replicas={replicas}"
        self.scene.cluster.kubectl("scale", f"modelservice/{self.name}", number, "--namespace", namespace)
        await self.until_settled(replicas)

    async def until_falls(self) -> None:
        """Wait until the role `unified` begins to shrink."""
        await self.until(lambda role: role.get("draining", 0) > 0, "shrinks")

    async def until_rests(self) -> int:
        """Wait until the role `unified` has what it shall have and fewer would not do; how many these are."""

        def rests(role: Document) -> bool:
            has_all = role["desired"] == role["ready"] and not role["draining"]
            return has_all and role["reason"] in {"Steady", "AtMinimum"}

        found = await self.until(rests, "rests")
        return int(found["desired"])

    async def until_gone(self) -> None:
        """Wait until nobody has it any more."""

        async def gone() -> bool:
            try:
                await self.document()
            except NotFound:
                return True
            return False

        await eventually(gone, timeout_seconds=SLOWLY_SECONDS, what=f"{self.name} is removed")


def _service_of(pod: Document) -> str | None:
    found: str | None = pod["metadata"].get("labels", {}).get(SERVICE_LABEL)
    return found


def _options(arguments: tuple[str, ...]) -> list[str]:
    return ["--port", str(PORT), "--cold-start-seconds", str(COLD_START_SECONDS), *arguments]


def seconds() -> float:
    """A clock that only goes forward."""
    return time.monotonic()  # noqa: TID251


def brief(status: Document) -> str:
    """What one wants to know of a service that is not as it should be."""
    kept = ("reason", "message", "roles", "conditions", "lastSignalAt", "decisions")
    return json.dumps({key: status.get(key) for key in kept})
