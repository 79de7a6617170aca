"""PerformanceProfile: how long an engine's steps take with a model on an accelerator, and how many tokens it holds."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from stowage.api.amounts import Amount, Between
from stowage.api.conditions import Conditions
from stowage.api.durations import Duration, Instant, within
from stowage.api.engine_type import EngineType
from stowage.api.fields import ATOMIC, MAX_COUNT, Integer, LabelValue, cel
from stowage.api.resource import Resource, SpecFields, StatusFields

MAX_PREFILL_ROWS: Final = 512
MAX_DECODE_ROWS: Final = 1024
MAX_TOKENS: Final = 10**9
_NONE: Final = "0"
_MODEL: Final = r"^[A-Za-z0-9]([A-Za-z0-9._:/@-]*[A-Za-z0-9])?$"

TokenCount = Annotated[Integer, Field(ge=1, le=MAX_TOKENS)]
StepTime = Annotated[Amount, Between("0.1", "3600000")]
"""Milliseconds; no engine makes a step in less than a tenth of one."""
Running = Annotated[Integer, Field(ge=1, le=65_536)]


class PrefillRow(SpecFields):
    """One measurement of a step that computes prompts alone."""

    tokens: TokenCount
    """Tokens of all prompts in the step."""
    milliseconds: StepTime
    """How long it took."""


class DecodeRow(SpecFields):
    """One measurement of a step that gives each request that runs one token."""

    running: Running
    """Requests that ran."""
    kv_tokens: Annotated[Integer, Field(ge=0, le=MAX_TOKENS)] = 0
    """Tokens of all of them in the KV cache; 0: few, or not told."""
    milliseconds: StepTime
    """How long it took."""


class Measured(SpecFields):
    """Measurements. Between rows times go along the line, beyond the last one on by its slope."""

    prefill: Annotated[
        tuple[PrefillRow, ...], Field(min_length=1, max_length=MAX_PREFILL_ROWS, json_schema_extra=ATOMIC)
    ]
    """Steps that compute prompts."""
    decode: Annotated[tuple[DecodeRow, ...], Field(min_length=1, max_length=MAX_DECODE_ROWS, json_schema_extra=ATOMIC)]
    """Steps that generate."""


class PrefillFit(SpecFields):
    """Milliseconds of a step with n tokens of prompts: base + perToken · n + perSquaredToken · n²."""

    base: StepTime
    """Milliseconds of any step."""
    per_token: Amount
    """Milliseconds for each token of prompts."""
    per_squared_token: Amount = _NONE
    """Milliseconds for the square of the tokens: attention, where prompts are long."""


class DecodeFit(SpecFields):
    """Milliseconds of a step with r requests that hold k tokens together: base + perRequest · r + perKvToken · k."""

    base: StepTime
    """Milliseconds of any step."""
    per_request: Amount
    """Milliseconds for each request that runs."""
    per_kv_token: Amount = _NONE
    """Milliseconds for each token in the KV cache of those."""


class LargeBatchFit(DecodeFit):
    """The same where many requests run, for such steps are bound by other limits."""

    from_running: Annotated[Integer, Field(ge=2, le=65_536)]
    """From so many requests on."""


class Fitted(SpecFields):
    """Coefficients of step times in milliseconds (the form of DistServe, OSDI'24)."""

    prefill: PrefillFit
    """Steps that compute prompts."""
    decode: DecodeFit
    """Steps that generate."""
    decode_large_batch: LargeBatchFit | None = None
    """The same from so many requests on; absent: `decode` is for all."""


class ProfiledEngine(SpecFields):
    """The engine that was measured."""

    type: EngineType = EngineType.VLLM
    """Which program."""
    version: Annotated[str, Field(min_length=1, max_length=32, pattern=r"^v?[0-9][0-9A-Za-z.+_-]*$")] | None = None
    """Its version, such as `0.11.0`."""


class Parallelism(SpecFields):
    """Over how many GPUs one replica spreads the model."""

    tensor: Annotated[Integer, Field(ge=1, le=64)] = 1
    """GPUs that share each layer."""
    pipeline: Annotated[Integer, Field(ge=1, le=64)] = 1
    """Stages that follow each other."""

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tensor * self.pipeline


_ONE_RULE: Final = "exactly one of measured and fitted must be given"
_BATCH_RULE: Final = "maxBatchedTokens must be more than maxRunning: each request that runs takes one token of a step"


class PerformanceProfileSpec(SpecFields):
    """What was measured, or fitted to measurements, of one replica."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("has(self.measured) != has(self.fitted)", _ONE_RULE),
            ("self.maxBatchedTokens > self.maxRunning", _BATCH_RULE),
        )
    )

    model: Annotated[str, Field(min_length=1, max_length=253, pattern=_MODEL)]
    """Which model was measured."""
    accelerator: Annotated[LabelValue, Field(min_length=1)]
    """On which accelerator, such as `h100-80gb`."""
    engine: ProfiledEngine = ProfiledEngine()
    """With which engine."""
    parallelism: Parallelism = Parallelism()
    """Over how many GPUs."""
    kv_cache_tokens: TokenCount
    """Tokens that the KV cache of one replica can hold."""
    max_running: Annotated[Running, Field(description="Most requests that run at once.")] = 256
    max_batched_tokens: Annotated[TokenCount, Field(description="Most tokens that one step computes.")] = 2048
    mixed_factor: Annotated[Amount, Between("1", "10")] = "1"
    """How many times longer a step of prompts and running requests takes than its tokens alone."""
    overhead: Annotated[Duration, within("0s", "1m")] = Duration("0s")
    """Of each request before its first token, outside of the steps: tokenising, transport."""
    measured: Measured | None = None
    """Step times as they were measured."""
    fitted: Fitted | None = None
    """Step times by coefficients."""
    source: Annotated[str, Field(max_length=512)] = ""
    """Where the numbers come from, for people."""
    measured_at: Instant | None = None
    """When they were measured."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.measured is None) == (self.fitted is None):
            raise ValueError(_ONE_RULE)
        if self.max_batched_tokens <= self.max_running:
            raise ValueError(_BATCH_RULE)
        return self


class ProfileCondition(StrEnum):
    """Types of the conditions of a PerformanceProfile."""

    ACCEPTED = "Accepted"
    """Decisions can be made from it."""


class ProfileReason(StrEnum):
    """Why the conditions of a PerformanceProfile are as they are: members are added, never renamed."""

    ACCEPTED = "Accepted"
    """Accepted: services that name it are decided with it."""
    INVALID_SPEC = "InvalidSpec"
    """Not Accepted: its numbers make no curves; services that name it are decided as if it were not there."""


class PerformanceProfileStatus(StatusFields):
    """What the operator says about a profile."""

    observed_generation: Annotated[Integer, Field(ge=0, le=MAX_COUNT)] = 0
    """`metadata.generation` that this status speaks of."""
    services: Annotated[Integer, Field(ge=0, le=MAX_COUNT)] = 0
    """ModelServices that name it in a variant."""
    conditions: Conditions = ()
    """Accepted."""


class PerformanceProfile(Resource):
    """How fast a model is on an accelerator, measured or fitted: where decisions about ModelServices begin."""

    plural: ClassVar[str] = "performanceprofiles"
    max_name_length: ClassVar[int] = 253

    kind: Literal["PerformanceProfile"] = "PerformanceProfile"
    spec: PerformanceProfileSpec
    """What was measured, or fitted to measurements."""
    status: PerformanceProfileStatus = PerformanceProfileStatus()
    """What the operator says about it; only the leading operator writes it."""
