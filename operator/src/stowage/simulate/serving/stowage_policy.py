"""The operator's own decision pipeline as a policy of the simulator: the code that runs in a cluster, unchanged."""

from __future__ import annotations

from stowage.decide.serving.memory import Memory
from stowage.decide.serving.pipeline import decide
from stowage.decide.serving.settings import Settings
from stowage.decide.serving.view import View
from stowage.simulate.serving.setup import Setup


class StowagePolicy:
    """Keeps the pipeline's memory between decisions."""

    name = "stowage"

    def __init__(self, settings: Settings) -> None:
        """`settings` are those of the role."""
        self.interval_seconds = settings.interval_seconds
        self.memory = Memory()
        self._settings = settings

    def decide(self, view: View) -> int:
        """The pipeline's answer."""
        decision, self.memory = decide(view, self._settings, self.memory)
        return decision.to_replicas


def stowage_policy(setup: Setup, attainment: float = 0.99) -> StowagePolicy:
    """With the targets, profile and bounds of a simulation, all else at its default."""
    least, most = setup.bounds
    return StowagePolicy(
        Settings(
            performance=setup.performance,
            slo_ttft_seconds=setup.slo_ttft_seconds,
            slo_itl_seconds=setup.slo_itl_seconds,
            attainment=attainment,
            least=max(1, least),
            most=most,
            interval_seconds=setup.scrape_interval_seconds,
        )
    )
