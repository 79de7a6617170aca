from __future__ import annotations

from pathlib import Path

import pytest

from stowage_worker.environment import Place, rank_environment
from stowage_worker.messages import Go

PLACE = Place(Path("/run/epochs/4"))


def of(framework: str, local_rank: int = 1, per_node: int = 2, **more: str) -> dict[str, str]:
    go = Go(4, 3, 1, 3, per_node, "10.0.0.7", 21000, environment=more)
    inherited = {"PATH": "/bin", "STOWAGE_TOKEN": "secret", "STOWAGE_COORDINATOR": "c:1", "RANK": "of an outer job"}
    own = {"STOWAGE_JOB": "j", "STOWAGE_SEAT": "s1", "STOWAGE_FRAMEWORK": framework}
    return rank_environment(go, local_rank, PLACE, inherited, own)


def test_torch() -> None:
    found = of("Torch")
    expected = {
        "MASTER_ADDR": "10.0.0.7",
        "MASTER_PORT": "21000",
        "RANK": "3",
        "WORLD_SIZE": "6",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "1",
        "TORCHELASTIC_ERROR_FILE": "/run/epochs/4/rank-3/torch-error.json",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert not [name for name in found if name.startswith(("PET_", "JAX_"))]


def test_torchrun_itself_is_the_program() -> None:
    found = of("Torch", 0, 1, PET_NPROC_PER_NODE="8")
    expected = {
        "PET_NNODES": "3",
        "PET_NODE_RANK": "1",
        "PET_MASTER_ADDR": "10.0.0.7",
        "PET_MASTER_PORT": "21000",
        "PET_MAX_RESTARTS": "0",
        "PET_NPROC_PER_NODE": "8",
    }
    assert {name: value for name, value in found.items() if name.startswith("PET_")} == expected


def test_jax() -> None:
    found = of("Jax")
    assert found["JAX_COORDINATOR_ADDRESS"] == "10.0.0.7:21000"
    assert (found["JAX_NUM_PROCESSES"], found["JAX_PROCESS_ID"]) == ("6", "3")
    assert "MASTER_ADDR" not in found


def test_an_ipv6_address_is_bracketed_for_jax_and_not_for_torch() -> None:
    go = Go(1, 1, 0, 1, 1, "fd00::1", 21000)
    found = [rank_environment(go, 0, PLACE, {}, {"STOWAGE_FRAMEWORK": framework}) for framework in ("Jax", "Torch")]
    assert found[0]["JAX_COORDINATOR_ADDRESS"] == "[fd00::1]:21000"
    assert found[1]["MASTER_ADDR"] == "fd00::1"


def test_plain_programs_find_stowage_s_variables_only() -> None:
    found = of("Plain")
    expected = {
        "STOWAGE_JOB": "j",
        "STOWAGE_SEAT": "s1",
        "STOWAGE_EPOCH": "4",
        "STOWAGE_ATTEMPT": "3",
        "STOWAGE_RANK": "3",
        "STOWAGE_WORLD_SIZE": "6",
        "STOWAGE_LOCAL_RANK": "1",
        "STOWAGE_LOCAL_WORLD_SIZE": "2",
        "STOWAGE_NODE_RANK": "1",
        "STOWAGE_NODES": "3",
        "STOWAGE_WORLD_FILE": "/run/epochs/4/world.json",
        "STOWAGE_PROGRESS_FILE": "/run/epochs/4/rank-3/progress.json",
        "STOWAGE_ERROR_FILE": "/run/epochs/4/rank-3/error.json",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert "MASTER_ADDR" not in found
    assert found["RANK"] == "of an outer job"


@pytest.mark.parametrize("framework", ["Torch", "Jax", "Plain"])
def test_no_rank_sees_the_token(framework: str) -> None:
    assert "secret" not in of(framework).values()
    assert "STOWAGE_COORDINATOR" not in of(framework)


def test_a_job_cannot_say_which_rank_this_is() -> None:
    found = of("Torch", RANK="0", STOWAGE_RANK="0", NCCL_DEBUG="INFO")
    assert (found["RANK"], found["STOWAGE_RANK"], found["NCCL_DEBUG"]) == ("3", "3", "INFO")
