"""Pictures of a cluster: nodes as columns, pods as blocks, colour by priority."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from stowage_scheduler.cluster import Pod, Snapshot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PALETTE = ("#b8cfe6", "#7fb3a8", "#e8b04a", "#c8553d", "#7b4b94", "#3d405b", "#8a8d91", "#d98ca6")
_INK = "#2b2d33"
_FREE = "#f1f2f4"
_MAX_NAMED_COLUMNS = 40
_WORDS = {"cpu": "CPU", "nvidia.com/gpu": "GPUs"}
_NEW_EDGE = 1.1

Block = tuple[float, int, bool]
"""Share of the node, priority, and whether the pod is newly placed."""


class Column(Struct, frozen=True):
    """A node and its pods, bottom first."""

    name: str
    blocks: tuple[Block, ...]


class Picture(Struct, frozen=True):
    """What a picture shows, free of any drawing library."""

    title: str
    subtitle: str
    resource: str
    columns: tuple[Column, ...]
    pending: tuple[tuple[float, int], ...]  # (share of the largest node, priority)

    @property
    def priorities(self) -> list[int]:
        """Every priority shown, highest first."""
        shown = {priority for column in self.columns for _, priority, _ in column.blocks}
        return sorted(shown | {priority for _, priority in self.pending}, reverse=True)


def picture(
    snapshot: Snapshot, *, title: str, subtitle: str, resource: str = "cpu", earlier: Snapshot | None = None
) -> Picture:
    """What there is to draw of a snapshot.

    Args:
        snapshot: the cluster; finished pods are left out.
        title: the headline.
        subtitle: one line below it.
        resource: heights are shares of this resource's allocatable amount.
        earlier: pods that were not on the same node in this snapshot are drawn with a dark edge.
    """
    kept = {(pod.uid, pod.node) for pod in earlier.pods} if earlier else None
    by_node: dict[str, list[Pod]] = defaultdict(list)
    pending: list[Pod] = []
    for pod in snapshot.pods:
        if pod.finished:
            continue
        if pod.node is None:
            pending.append(pod)
        else:
            by_node[pod.node].append(pod)
    nodes = sorted((node for node in snapshot.nodes if node.allocatable.get(resource)), key=lambda node: node.name)
    columns = tuple(
        Column(
            name=node.name,
            blocks=tuple(
                (
                    pod.requests.get(resource, 0) / node.allocatable[resource],
                    pod.priority,
                    kept is not None and (pod.uid, pod.node) not in kept,
                )
                for pod in _stacked(by_node[node.name], resource)
            ),
        )
        for node in nodes
    )
    largest = max((node.allocatable[resource] for node in nodes), default=1)
    waiting = tuple((pod.requests.get(resource, 0) / largest, pod.priority) for pod in _stacked(pending, resource))
    return Picture(title=title, subtitle=subtitle, resource=resource, columns=columns, pending=waiting)


def _stacked(pods: Iterable[Pod], resource: str) -> list[Pod]:
    asking = [pod for pod in pods if pod.requests.get(resource)]
    return sorted(asking, key=lambda pod: (-pod.priority, -pod.requests[resource], pod.key))


def draw(shown: Picture, path: Path) -> None:
    """Writes a picture as PNG.

    Raises:
        OSError: the file cannot be written.
    """
    # matplotlib costs half a second to import: only who draws pays for it
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    count = max(len(shown.columns), 1)
    colours = {priority: _PALETTE[index % len(_PALETTE)] for index, priority in enumerate(reversed(shown.priorities))}
    figure = Figure(figsize=(min(16.0, 6.0 + 0.26 * count), 6.0), dpi=130, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes, waiting = figure.subplots(1, 2, width_ratios=(count, max(3.0, count / 8)), sharey=True)
    figure.suptitle(shown.title, fontsize=15, fontweight="bold", color=_INK, x=0.01, ha="left")

    for index, column in enumerate(shown.columns):
        _stack(axes, index, [(0.0, 1.0, _FREE, False)])
        _stack(axes, index, _layers(column.blocks, colours))
    named = len(shown.columns) <= _MAX_NAMED_COLUMNS
    axes.set(
        xlim=(-0.7, count - 0.3),
        ylim=(0, 104),
        ylabel=f"share of the node's {_WORDS.get(shown.resource, shown.resource)} (%)",
    )
    axes.set_xticks(range(count) if named else [], [c.name for c in shown.columns] if named else [], rotation=90)
    axes.set_xlabel("" if named else f"{count} nodes")
    axes.set_title(shown.subtitle, fontsize=10, color=_INK, loc="left")

    shelves = _shelves(shown.pending)
    for index, shelf in enumerate(shelves):
        _stack(waiting, index, _layers([(share, priority, False) for share, priority in shelf], colours))
    waiting.set(xlim=(-0.7, max(len(shelves), 3) - 0.3))
    waiting.set_xticks([])
    waiting.set_title(f"pending: {len(shown.pending)}", fontsize=10, color=_INK, loc="left")

    for one in (axes, waiting):
        one.tick_params(labelsize=7.5, length=0, colors=_INK)
        one.spines[["top", "right", "left"]].set_visible(False)
    waiting.tick_params(labelleft=False)
    legend = [Patch(facecolor=colours[p], edgecolor="white", label=f"priority {p}") for p in shown.priorities]
    legend.append(Patch(facecolor=_FREE, edgecolor="#d5d7db", label="free"))
    if any(new for column in shown.columns for _, _, new in column.blocks):
        legend.append(Patch(facecolor="white", edgecolor=_INK, linewidth=_NEW_EDGE, label="newly placed or moved"))
    figure.legend(handles=legend, loc="outside lower center", ncols=len(legend), frameon=False, fontsize=9)
    figure.savefig(path)


def _layers(blocks: Iterable[Block], colours: Mapping[int, str]) -> Iterator[tuple[float, float, str, bool]]:
    """Where each block of a stack begins, its height, its colour, and whether it is new."""
    bottom = 0.0
    for share, priority, new in blocks:
        yield bottom, share, colours[priority], new
        bottom += share


def _stack(axes: Axes, index: int, layers: Iterable[tuple[float, float, str, bool]]) -> None:
    """Draws one column of blocks."""
    from matplotlib.patches import Rectangle  # noqa: PLC0415 - as above

    for bottom, share, colour, new in layers:
        axes.add_patch(
            Rectangle(
                (index - 0.44, 100 * bottom),
                0.88,
                100 * share,
                facecolor=colour,
                edgecolor=_INK if new else "white",
                linewidth=_NEW_EDGE if new else 0.5,
                zorder=3 if new else 2,
            )
        )


def _shelves(pending: Iterable[tuple[float, int]]) -> list[list[tuple[float, int]]]:
    """Pending pods side by side: each shelf as high as a node at most."""
    shelves: list[list[tuple[float, int]]] = [[]]
    height = 0.0
    for share, priority in pending:
        if shelves[-1] and height + share > 1.0:
            shelves.append([])
            height = 0.0
        shelves[-1].append((min(share, 1.04), priority))
        height += share
    return shelves
