"""The engines whose metrics are known by name."""

from __future__ import annotations

from enum import StrEnum


class EngineType(StrEnum):
    """Which program answers requests."""

    VLLM = "Vllm"
    SGLANG = "Sglang"
    TRT_LLM = "TrtLlm"
    CUSTOM = "Custom"
