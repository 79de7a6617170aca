"""Every way to run a replica that a profile tells of: by GPU and tensor split, and by pipelines of those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stowage.decide.serving.plan_serving import Split
from stowage.simulate.openb import TraceError
from stowage.simulate.serving.csv_files import Row, columns_of, parsed, whole
from stowage.simulate.serving.kv_capacity import kv_capacity
from stowage.simulate.serving.profile_files import Limits, read_profile


@dataclass(frozen=True, slots=True)
class _Columns:
    """What the columns are called that say what a row was measured with; others than these need `select`."""

    gpu: str
    tensor: str
    model: str
    precision: str = ""
    rows: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Columns that have to hold one of some values: of runs with both roles together and one stage."""

    def own(self, select: Mapping[str, str]) -> dict[str, str]:
        """With splitwise's names, which serve for all forms, replaced by those of this one."""
        names = {"model": self.model, "hardware": self.gpu, "tensor_parallel": self.tensor}
        return {names.get(name, name): value for name, value in select.items()}


_FORMS: Final = {
    "prompt_time": _Columns("hardware", "tensor_parallel", "model"),
    "silicon_ttft_ms": _Columns(
        "system", "tp_size", "model_path", "precision", rows=(("mode", ("agg",)), ("pp_size", ("", "1")))
    ),
}


@dataclass(frozen=True, slots=True)
class Splits:
    """What was found; `left_out` says in words what could not be used."""

    splits: tuple[Split, ...]
    left_out: tuple[str, ...]


def read_splits(
    file: Path,
    gpus: Sequence[str],
    pipelines: Sequence[int],
    *,
    select: Mapping[str, str],
    tensor: int = 1,
    kv_tokens: int | None = None,
) -> Splits:
    """All splits on the given GPUs.

    A pipeline is not in any of the profiles: its parts are taken to be as fast as the whole with the same `tensor`, and
    to hold what the memory of all its GPUs holds.

    Args:
        file: a profile, in a form of `profile_files`.
        gpus: names as the profile has them; one alone, of any name, where it names none.
        pipelines: numbers of stages to consider.
        select: values by column, where the profile holds several models or engines.
        tensor: how many GPUs a replica was measured on, where the profile does not tell.
        kv_tokens: what a replica holds; None: as model, GPU and number tell.

    Raises:
        TraceError: the file is not as expected, or a GPU is not in it; names the choices.
    """
    columns = None if file.is_dir() else next((form for name, form in _FORMS.items() if name in columns_of(file)), None)
    if columns is None:
        if len(gpus) != 1:
            raise TraceError(f"{file}: tells of one replica and not on which GPU: give one GPU")
        performance = read_profile(file, select, Limits(kv_capacity_tokens=kv_tokens))
        left = [f"pipelines of {count}: the profile names no model" for count in sorted(set(pipelines)) if count > 1]
        return Splits((Split(gpus[0], tensor, 1, performance),), tuple(left))
    chosen = columns.own(select)
    measured = [(gpu, row) for gpu in dict.fromkeys(gpus) for row in _rows(file, columns, gpu, chosen)]
    found: list[Split] = []
    left = []
    for gpu, row in measured:
        size = int(row[columns.tensor])
        one = {**chosen, columns.gpu: gpu, columns.tensor: row[columns.tensor]}
        one |= {name: row[name] for name, _ in columns.rows}
        for stages in sorted(set(pipelines)):
            count = size * stages
            held = kv_tokens or kv_capacity(
                row[columns.model], gpu, count, row[columns.precision] if columns.precision else ""
            )
            if held is None:
                left.append(f"{row[columns.model]} on {count} {gpu}: does not fit, or its size is not known")
            else:
                found.append(Split(gpu, size, stages, read_profile(file, one, Limits(kv_capacity_tokens=held))))
    return Splits(tuple(found), tuple(dict.fromkeys(left)))


def _rows(file: Path, columns: _Columns, gpu: str, select: Mapping[str, str]) -> list[Row]:
    """For each tensor split on this GPU one of its rows."""
    rows = [
        row
        for row in parsed(file, (columns.gpu, columns.tensor, columns.model), lambda row: row)
        if all(row.get(name) in values for name, values in columns.rows)
        and all(row.get(name, value) == value for name, value in select.items())
    ]
    models = sorted({row[columns.model] for row in rows})
    if len(models) != 1:
        raise TraceError(f"{file}: choose with profile-select, {columns.model}: {', '.join(models) or 'none is left'}")
    by_size = {whole(row, columns.tensor, least=1): row for row in rows if row[columns.gpu] == gpu}
    if not by_size:
        raise TraceError(f"{file}: no row with GPU {gpu}, but with {', '.join(sorted({r[columns.gpu] for r in rows}))}")
    return [by_size[size] for size in sorted(by_size)]
