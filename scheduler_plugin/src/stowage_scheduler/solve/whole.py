"""All of a gang or nothing, in models that count the pods of each class wherever they stand."""

from __future__ import annotations

from collections.abc import Sequence

from ortools.sat.python import cp_model

from stowage_scheduler.problem import Problem, WholeGang


def whole_or_none(
    model: cp_model.CpModel, problem: Problem, gang: WholeGang, placed: Sequence[cp_model.IntVar]
) -> None:
    """Add the rows of a gang.

    Args:
        model: gets one more Boolean.
        problem: with the gang.
        gang: whose pods get their places together.
        placed: by class, the pods that have a place.
    """
    whole = model.new_bool_var("")
    for index in gang.classes:
        total = problem.classes[index].total
        if gang.need is None:
            model.add(placed[index] == total * whole)
        else:
            model.add(placed[index] <= total * whole)
    if gang.need is not None:
        model.add(cp_model.LinearExpr.sum([placed[index] for index in gang.classes]) >= gang.need * whole)
