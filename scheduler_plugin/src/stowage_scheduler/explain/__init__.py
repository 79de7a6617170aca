"""Why a pod stays pending: counts of nodes by rule, rules that cannot hold together, and what would help."""

from stowage_scheduler.explain.explainer import Explainer, Explanation

__all__ = ["Explainer", "Explanation"]
