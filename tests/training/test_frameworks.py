"""Real PyTorch and real JAX on this machine's CPUs: whatever is killed, the committed history is the undisturbed run's.

`make test-torch` and `make test-jax` make the environments and name their interpreters in `STOWAGE_TORCH_PYTHON` and
`STOWAGE_JAX_PYTHON`. Without them there is nothing to test.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import stowage_worker
from harness.local_training import LocalTraining
from harness.waiting import eventually

PROGRAMS = Path(__file__).with_name("programs")
STEPS = 60
BATCH = 12
PATIENCE_SECONDS = 300.0  # four interpreters import a framework on the cores that there are
History = list[tuple[int, list[int], float]]


@dataclass(frozen=True)
class Framework:
    """A framework whose environment is there."""

    name: str
    program: str

    @property
    def python(self) -> str:
        """Its interpreter; empty when nobody named one."""
        return os.environ.get(f"STOWAGE_{self.name.upper()}_PYTHON", "")

    def run(
        self,
        folder: Path,
        *,
        nodes: int = 2,
        per_node: int = 2,
        options: Sequence[str] = (),
        program: Sequence[str] = (),
        starter: Sequence[str] = (),
    ) -> LocalTraining:
        """A run that is not started yet.

        Args:
            folder: of its files.
            nodes: supervisors.
            per_node: processes that each starts.
            options: of local mode.
            program: options of the program.
            starter: what starts the program; by default the framework's interpreter.
        """
        script = (str(PROGRAMS / self.program), str(folder / "history.json"), str(STEPS), *program)
        return LocalTraining(
            folder,
            nodes,
            per_node,
            steps=STEPS,
            options=("--framework", self.name, *options),
            python=self.python,
            command=(*(starter or (self.python,)), *script),
            environment={"PYTHONPATH": str(Path(stowage_worker.__file__).parent.parent), "OMP_NUM_THREADS": "1"},
            timeout_seconds=PATIENCE_SECONDS,
        )


TORCH, JAX = Framework("Torch", "torch_ddp.py"), Framework("Jax", "jax_spmd.py")


PRESENT = [one for one in (TORCH, JAX) if one.python]
pytestmark = pytest.mark.skipif(not PRESENT, reason="neither STOWAGE_TORCH_PYTHON nor STOWAGE_JAX_PYTHON is set")


@pytest.fixture(scope="module", params=PRESENT or [TORCH], ids=lambda one: one.name)
def framework(request: pytest.FixtureRequest) -> Framework:
    found: Framework = request.param
    return found


@pytest.fixture(scope="module")
def undisturbed(framework: Framework, tmp_path_factory: pytest.TempPathFactory) -> History:
    """The history of a run in which nothing happens."""
    run = framework.run(tmp_path_factory.mktemp("undisturbed"))
    assert run.run() == 0, run.output()
    assert run.started() == {1: [0, 1, 2, 3]}
    return [(step, samples, loss) for step, samples, loss in run.history()]


async def test_the_model_learns_from_each_sample_once(undisturbed: History) -> None:
    assert [step for step, _, _ in undisturbed] == list(range(STEPS))
    assert sorted(sample for _, samples, _ in undisturbed for sample in samples) == list(range(STEPS * BATCH))
    losses = [loss for _, _, loss in undisturbed]
    assert sum(losses[-10:]) < sum(losses[:10])


async def ended_like(run: LocalTraining, undisturbed: History) -> None:
    """It succeeded, with the same samples and losses, and left nothing."""
    assert run.wait() == 0, run.output()[-5000:]
    history = run.history()
    assert [samples for _, samples, _ in history] == [samples for _, samples, _ in undisturbed]
    assert [loss for *_, loss in history] == pytest.approx([loss for *_, loss in undisturbed], rel=1e-9)

    async def gone() -> bool:
        assert run.left() == []
        return True

    await eventually(gone, what="no process of the run is left")


async def kill_at(run: LocalTraining, step: int, victim: str, number: int) -> None:
    """SIGKILL to a rank or to the supervisor of a seat once the run has done a step."""
    status = await run.until(lambda status: status["phase"] == "Running" and status["step"] >= step, f"step {step}")
    os.kill(run.rank_pid(number) if victim == "rank" else status["seats"][f"s{number}"]["pid"], signal.SIGKILL)
    epoch = status["epoch"]
    await run.until(lambda status: status["epoch"] > epoch, "the next epoch")


async def test_killed_at_random_steps(framework: Framework, undisturbed: History, tmp_path: Path) -> None:
    chance = random.Random(20)
    run = framework.run(tmp_path).start()
    victims = [("rank", chance.randrange(4)), ("supervisor", chance.randrange(2)), ("rank", chance.randrange(4))]
    for step, (victim, number) in zip(sorted(chance.sample(range(3, STEPS - 8), 3)), victims, strict=True):
        await kill_at(run, step, victim, number)
    await ended_like(run, undisturbed)
    assert run.started() == {epoch: [0, 1, 2, 3] for epoch in (1, 2, 3, 4)}
    assert run.status()["restarts"] == 3


async def test_killed_between_writing_a_checkpoint_and_committing_it(
    framework: Framework, undisturbed: History, tmp_path: Path
) -> None:
    checkpoints = tmp_path / "checkpoints"
    options = ("--checkpoint-dir", str(checkpoints))
    run = framework.run(tmp_path, options=options, program=("--die-before-commit", "29")).start()
    await ended_like(run, undisturbed)
    assert run.started() == {1: [0, 1, 2, 3], 2: [0, 1, 2, 3]}
    assert any(path.name != "COMMITTED" for path in (checkpoints / "attempt-1" / "step-29").iterdir())
    assert (checkpoints / "attempt-2" / "RESUMED_FROM").read_text() == '{"attempt": 1, "step": 24}'


async def test_another_number_of_processes_goes_on(framework: Framework, undisturbed: History, tmp_path: Path) -> None:
    options = ("--checkpoint-dir", str(tmp_path / "checkpoints"))
    first = framework.run(tmp_path / "first", options=options).start()
    await first.until(lambda status: status["checkpointStep"] >= 14, "a checkpoint")
    assert first.process is not None
    first.process.terminate()
    assert first.wait() == 143
    second = framework.run(tmp_path / "second", nodes=3, per_node=1, options=options).start()
    await ended_like(second, undisturbed)
    assert second.started() == {1: [0, 1, 2]}
    assert second.status()["attempt"] == 2


@pytest.mark.skipif(not TORCH.python, reason="STOWAGE_TORCH_PYTHON is not set")
@pytest.mark.parametrize("framework", [TORCH], indirect=True, ids=lambda one: one.name)
async def test_torchrun_starts_the_ranks_of_its_node(
    framework: Framework, undisturbed: History, tmp_path: Path
) -> None:
    torchrun = (framework.python, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    run = framework.run(tmp_path, per_node=1, starter=torchrun).start()
    for step in (12, 31):
        await run.until(lambda status, step=step: status["phase"] == "Running" and status["step"] >= step)
        *_, (_, pid) = sorted(processes_of(run).items())
        epoch = run.status()["epoch"]
        os.kill(pid, signal.SIGKILL)  # a child of torchrun, that Stowage knows nothing of
        await run.until(lambda status, epoch=epoch: status["epoch"] > epoch, "the next epoch")
    await ended_like(run, undisturbed)
    assert run.started() == {epoch: [0, 1, 2, 3] for epoch in (1, 2, 3)}


def processes_of(run: LocalTraining) -> dict[tuple[int, int], int]:
    """Process ids as the program told them, by epoch and rank."""
    lines = (map(int, line.split()) for line in (run.folder / "started").read_text().splitlines())
    return {(epoch, rank): pid for epoch, rank, _, pid in lines}
