"""One more node like those that are there: what it would be, and how people call it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from stowage_scheduler.cluster import CPU, MEMORY, Node, Pod, Taint
from stowage_scheduler.explain.words import amounts

TYPE_LABELS = (
    "node.kubernetes.io/instance-type",
    "karpenter.sh/nodepool",
    "eks.amazonaws.com/nodegroup",
    "cloud.google.com/gke-nodepool",
    "kubernetes.azure.com/agentpool",
    "beta.kubernetes.io/instance-type",
)
"""Labels that tell what to ask a cloud or an administrator for, the plainest first."""

PASSING_TAINTS = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/", "stowage.dev/reserved")
"""How keys of taints begin that tell of a state: a new node would not have them."""

_ZONE = "topology.kubernetes.io/zone"
_HOST = "kubernetes.io/hostname"


class NodeType(Struct, frozen=True):
    """Nodes that are alike but for their names.

    `like` is one of them; `new` is the node that would come, `stowage-new-node` by name; `daemons` are the pods that
    DaemonSets would put there.
    """

    name: str
    like: Node
    new: Node
    daemons: tuple[Pod, ...]
    own: frozenset[str]  # keys of labels that tell its nodes apart

    def words(self, pod: Pod) -> str:
        """The type for people, with the amounts that the pod asks for: `type a (like node n1: 4 cpu)`."""
        wanted = {CPU, MEMORY, *pod.requests}
        told = {name: amount for name, amount in self.new.allocatable.items() if name in wanted}
        shape = amounts(told)
        zone = f" in zone {self.like.labels[_ZONE]}" if _ZONE in self.like.labels else ""
        if self.name:
            return f"of type {self.name}{zone} ({shape})"
        return f"like {self.like.name}{zone} ({shape})"


def node_types(nodes: Sequence[Node], residents: Mapping[str, Sequence[Pod]]) -> Iterator[NodeType]:
    """The types of nodes, small ones first.

    Args:
        nodes: those that may be used.
        residents: by name of a node the pods that stand there; those of DaemonSets would stand on a new one, too.
    """
    own = _own_labels(nodes)
    found: dict[object, list[Node]] = defaultdict(list)
    for node in nodes:
        labels = tuple(sorted((key, value) for key, value in node.labels.items() if key not in own))
        found[labels, tuple(sorted(node.allocatable.items())), _lasting(node)].append(node)
    for alike in sorted(found.values(), key=lambda group: (_size(group[0]), group[0].name)):
        like = alike[0]
        name = next((like.labels[key] for key in TYPE_LABELS if key in like.labels), "")
        daemons = [pod for pod in residents.get(like.name, ()) if pod.owner and pod.owner.kind == "DaemonSet"]
        yield NodeType(name, like, new_node(like, own), tuple(daemons), own)


def new_node(like: Node, own: frozenset[str], number: int = 0) -> Node:
    """A node like another one, Ready and empty.

    Args:
        like: the other one.
        own: keys of labels that tell its nodes apart.
        number: of several new nodes.
    """
    name = f"stowage-new-node-{number}"
    labels = {key: name if key in own else value for key, value in like.labels.items()}
    return replace(like, name=name, uid=name, labels=labels, taints=_lasting(like), unschedulable=False, ready=True)


def new_nodes(kind: NodeType, count: int) -> tuple[Node, ...]:
    """Several new nodes of a type, without what DaemonSets take of them."""
    taken = {name: sum(pod.requests.get(name, 0) for pod in kind.daemons) for name in kind.new.allocatable}
    left = {name: amount - taken[name] for name, amount in kind.new.allocatable.items()}
    made = (new_node(kind.like, kind.own, number) for number in range(count))
    return tuple(replace(node, allocatable=left) for node in made)


def _own_labels(nodes: Sequence[Node]) -> frozenset[str]:
    """Keys of labels that hold the name of the node, as that of its host does."""
    shared = {key for node in nodes for key, value in node.labels.items() if value != node.name}
    return frozenset(key for node in nodes for key in node.labels if key not in shared) | {_HOST}


def _lasting(node: Node) -> tuple[Taint, ...]:
    return tuple(taint for taint in node.taints if not taint.key.startswith(PASSING_TAINTS))


def _size(node: Node) -> tuple[int, ...]:
    extended = sum(amount for name, amount in node.allocatable.items() if "gpu" in name)
    return extended, node.allocatable.get(CPU, 0), node.allocatable.get(MEMORY, 0)
