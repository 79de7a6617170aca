"""Problems of the size that matters for the mix of variants: 50 sizes of requests, 8 variants."""

from __future__ import annotations

from math import exp
from random import Random

from stowage.decide.serving.mix_problem import MICRO, Bucket, MixProblem, Variant

INPUTS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
OUTPUTS = (32, 128, 512, 1024, 2048)
VARIANTS = (
    # name, bf16 TFLOPS, TB/s, GB (AIConfigurator's systems), GPUs of a replica, price per hour (a guess)
    ("l4", 121.0, 0.3, 24.0, 1, 0.8),
    ("l40s", 362.0, 0.864, 48.0, 1, 1.9),
    ("a100", 312.0, 2.039, 80.0, 1, 2.9),
    ("h100", 989.0, 3.35, 80.0, 1, 6.5),
    ("h200", 989.0, 4.8, 141.0, 1, 7.9),
    ("a100-x2", 312.0, 2.039, 80.0, 2, 5.8),
    ("h100-x2", 989.0, 3.35, 80.0, 2, 13.0),
    ("b200", 2250.0, 7.7, 180.0, 1, 11.5),
)
_WEIGHT_BYTES, _KV_BYTES_PER_TOKEN = 16e9, 131_072.0  # of an 8B model


def roofline(seed: int) -> MixProblem:
    """Throughput from computation and bandwidth, with noise: variants are good at unlike sizes; 5 to 400 requests/s."""
    rng = Random(seed)
    weights = [exp(rng.gauss(0, 1.2)) for _ in range(50)]
    total = rng.choice([5, 20, 100, 400])
    sizes = [(i, o) for i in INPUTS for o in OUTPUTS]
    table = [[_rate(i, o, *one[1:5]) * rng.uniform(0.95, 1.05) for one in VARIANTS] for i, o in sizes]
    prices = [round(one[5] * rng.uniform(0.9, 1.1), 2) for one in VARIANTS]
    rates = [total * weight / sum(weights) for weight in weights]
    return _problem(rng, sizes, rates, table, prices)


def arbitrary(seed: int) -> MixProblem:
    """Throughput by lot, some of it none: harder to prove, for no variant is better than another by much."""
    rng = Random(seed)
    weights = [exp(rng.gauss(0, 1)) for _ in range(50)]
    total = rng.choice([3, 10, 40, 200])
    speeds = [rng.uniform(0.3, 6) for _ in VARIANTS]
    prices = [round(max(0.1, speed * rng.uniform(0.7, 1.3)), 3) for speed in speeds]
    table = []
    for _ in range(50):
        base = exp(rng.gauss(1, 1))
        table.append([0.0 if rng.random() < 0.15 else base * speed * rng.uniform(0.6, 1.5) for speed in speeds])
    rates = [total * weight / sum(weights) for weight in weights]
    return _problem(rng, [(i, o) for i in INPUTS for o in OUTPUTS], rates, table, prices)


def _problem(
    rng: Random, sizes: list[tuple[int, int]], rates: list[float], table: list[list[float]], prices: list[float]
) -> MixProblem:
    """Half of them with scarce stocks and the cost of switching; the last variant is never scarce and serves all."""
    scarce = rng.random() < 0.5
    for row in table:
        row[-1] = row[-1] or max(row) or 1.0
    variants = tuple(
        Variant(
            one[0],
            round(price * MICRO),
            {one[0].removesuffix("-x2"): one[4]},
            present=rng.randint(0, 4) if scarce else 0,
            start_cost_micro=round(price * MICRO) // 12 if scarce else 0,
        )
        for one, price in zip(VARIANTS, prices, strict=True)
    )
    names = {name for one in variants[:-1] for name in one.uses}
    stock = {name: rng.randint(1, 8) for name in sorted(names)} if scarce else {}
    buckets = tuple(Bucket(i, o, rate) for (i, o), rate in zip(sizes, rates, strict=True))
    return MixProblem(buckets, variants, tuple(map(tuple, table)), stock)


def _rate(inputs: int, outputs: int, tflops: float, terabytes: float, gigabytes: float, gpus: int) -> float:
    """Requests per second of a replica with all requests of one size, tokens within 50 ms, the first within 2 s."""
    speedup = 1.85 if gpus > 1 else 1.0
    prefill = inputs * _WEIGHT_BYTES / (tflops * 1e12 * 0.45 * speedup) + 0.01
    bandwidth = terabytes * 1e12 * 0.7 * speedup
    base, each = _WEIGHT_BYTES / bandwidth, (inputs + outputs / 2) * _KV_BYTES_PER_TOKEN / bandwidth + 1e-4
    held = (gigabytes * gpus * 0.9e9 - _WEIGHT_BYTES) / _KV_BYTES_PER_TOKEN / (inputs + outputs)
    batch = min(256.0, held, (0.05 - base) / each)
    if batch < 1 or prefill > 2:
        return 0.0
    return batch / (prefill * batch + outputs * (base + each * batch))
