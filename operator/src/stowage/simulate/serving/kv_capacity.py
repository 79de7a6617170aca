"""How many tokens' keys and values fit beside a model's weights on known GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

USED_SHARE: Final = 0.9
"""`--gpu-memory-utilization` of vLLM where nothing else is told."""
ACTIVATION_BYTES: Final = 2**30
"""Of each GPU, for what a step computes with. An assumption."""

GPU_BYTES: Final = {
    "a100-80gb": 80 * 2**30,
    "h100-80gb": 80 * 2**30,
    "h100-80gb-pcap": 80 * 2**30,
    "h100_sxm": 80 * 2**30,
    "h200_sxm": 141 * 2**30,
    "b200_sxm": 180 * 2**30,
    "b300_sxm": 288_400_343_040,
    "gb200": 198_674_743_296,
    "gb300": 298_013_687_808,
    "rtx_pro_6000": 102_641_958_912,
}
"""Memory of a GPU by the names that profiles use; from AIConfigurator's `systems/*.yaml`, the A100 and H100 of
splitwise as their names say."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A model as its `config.json` tells: parameters, bytes of each, and bytes of KV cache per token."""

    parameters: float
    bytes_per_parameter: float
    kv_bytes_per_token: int

    @property
    def weight_bytes(self) -> float:
        """All parameters."""
        return self.parameters * self.bytes_per_parameter


def _grouped(layers: int, kv_heads: int, head_dimension: int, bytes_per_value: int = 2) -> int:
    return 2 * layers * kv_heads * head_dimension * bytes_per_value


MODELS: Final = {
    "llama2-70b": ModelShape(68.98e9, 2, _grouped(80, 8, 128)),
    "bloom-176b": ModelShape(176.2e9, 2, _grouped(70, 112, 128)),
    "Llama-3.1-8B": ModelShape(8.03e9, 2, _grouped(32, 8, 128)),
    "Llama-3.1-70B": ModelShape(70.6e9, 2, _grouped(80, 8, 128)),
    "Qwen3-32B": ModelShape(32.8e9, 2, _grouped(64, 8, 128)),
    "Qwen3-235B-A22B": ModelShape(235.1e9, 2, _grouped(94, 4, 128)),
    "DeepSeek-R1": ModelShape(671.0e9, 1, 61 * 576 * 2),  # latent attention: 512 + 64 values per layer; FP8 weights
    "DeepSeek-V3": ModelShape(671.0e9, 1, 61 * 576 * 2),
    "DeepSeek-V3.1": ModelShape(671.0e9, 1, 61 * 576 * 2),
}
"""From the `config.json` of each model on Hugging Face; keys and values of 16 bits."""
_BYTES: Final = {"fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "nvfp4": 0.5625, "fp4": 0.5625}  # 4 bits and a scale per 16


def kv_capacity(model: str, gpu: str, gpus: int, precision: str = "") -> int | None:
    """Tokens that one replica on so many GPUs holds; None where model or GPU is not known, or nothing fits.

    `model` may have an organisation before it and `-Instruct`, `-FP8` or `-NVFP4` after it.
    """
    name = model.rsplit("/", 1)[-1]
    for ending, stored in (("-FP8", "fp8"), ("-NVFP4", "nvfp4")):
        if name.endswith(ending):
            name, precision = name.removesuffix(ending), precision or stored
    shape = MODELS.get(name.removesuffix("-Instruct"))
    memory = GPU_BYTES.get(gpu)
    if shape is None or memory is None:
        return None
    weights = shape.parameters * _BYTES.get(precision, shape.bytes_per_parameter)
    free = gpus * (USED_SHARE * memory - ACTIVATION_BYTES) - weights
    tokens = int(free / shape.kv_bytes_per_token)
    return tokens if tokens > 0 else None
