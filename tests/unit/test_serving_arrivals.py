"""Requests from traces, rates and shapes; what is wrong in a file is told with file, line and field."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stowage.simulate.openb import TraceError
from stowage.simulate.serving.arrivals import JITTER_SECONDS, azure, read_requests, scaled
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.servegen import weibull_shape
from stowage.simulate.serving.synthetic import Shape, synthetic

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("STOWAGE_DATA", ROOT.parent / "shared" / "data"))
HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
RATES = "client,t_s,rate_rps,cv,pattern,arg1,arg2\n"
QUANTILES = "client,field,mean_rate_rps,mean,p1,p5,p10,p20,p30,p40,p50,p60,p70,p80,p90,p95,p99\n"


def written(folder: Path, text: str, name: str = "trace.csv") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_a_trace_begins_at_second_0_in_order_of_arrival(tmp_path: Path) -> None:
    text = HEAD + (
        "2023-11-16 18:15:50.9951690,396,109\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:16:46.6805900,1,1\n"
    )
    requests = azure(written(tmp_path, text))
    assert requests.arrival_seconds.tolist() == pytest.approx([0.0, 4.314579, 60.0])
    assert requests.prompt_tokens.tolist() == [374, 396, 1]
    assert requests.output_tokens.tolist() == [44, 109, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", "the file is empty", id="empty"),
        pytest.param(HEAD, "no line after the names", id="no request"),
        pytest.param("TIMESTAMP,ContextTokens\n1,2\n", "no column GeneratedTokens", id="a column is missing"),
        pytest.param(HEAD + "1,2,3\n2,x,3\n", "line 3: ContextTokens is 'x'", id="no number"),
        pytest.param(HEAD + "1,2,1_0\n", "line 2: GeneratedTokens is '1_0'", id="Python's own digits"),
        pytest.param(HEAD + "1,2,٣\n", "line 2: GeneratedTokens is '٣'", id="digits of another script"),
        pytest.param(HEAD + "1,0,3\n", "line 2: ContextTokens is 0", id="no prompt"),
        pytest.param(HEAD + "1,2,-3\n", "line 2: GeneratedTokens is '-3'", id="negative"),
        pytest.param(HEAD + "1,2,99999999999\n", "line 2: GeneratedTokens is 99999999999", id="absurd"),
        pytest.param(HEAD + "1,2\n", "line 2: not 3 fields", id="too few fields"),
        pytest.param(HEAD + "1,2,3,4\n", "line 2: not 3 fields", id="too many fields"),
        pytest.param(HEAD + "noon,2,3\n", "line 2: TIMESTAMP is 'noon'", id="no time"),
        pytest.param(HEAD + "2023-13-16 18:15:46,2,3\n", "line 2: TIMESTAMP is '2023-13-16", id="no such month"),
        pytest.param(HEAD + "nan,2,3\n", "line 2: TIMESTAMP is 'nan'", id="not a number"),
        pytest.param(HEAD + "1,2,3\n9999999,2,3\n", "line 3: TIMESTAMP is 116 days", id="years apart"),
        pytest.param("x" * 200_000, "line 1: field larger", id="a name without end"),
        pytest.param(HEAD + '1,"2,3\n', "unexpected end of data", id="an open quote"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(TraceError) as caught:
        read_requests(file)
    assert str(caught.value).startswith(str(file))
    assert words in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="No such file"):
        read_requests(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match="decode"):
        read_requests(tmp_path / "bytes.csv")
    (tmp_path / "short.csv.gz").write_bytes(gzip.compress(HEAD.encode() * 100)[:30])
    with pytest.raises(TraceError, match=r"short\.csv\.gz"):
        read_requests(tmp_path / "short.csv.gz")


def some(count: int, seed: int = 0) -> Requests:
    rng = np.random.default_rng(seed)
    return Requests(np.sort(rng.uniform(0, 600, count)), np.arange(1, count + 1), np.arange(1, count + 1))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 80), st.floats(0.01, 6), st.integers(0, 99))
def test_scaled_by_any_factor_keeps_duration_and_kinds(count: int, factor: float, seed: int) -> None:
    requests = some(count)
    more = scaled(requests, factor, seed)
    whole, rest = int(factor), round((factor - int(factor)) * count)
    assert len(more) == whole * count + rest
    assert more.duration_seconds <= requests.duration_seconds
    times = Counter(more.prompt_tokens.tolist())
    assert set(times.values()) <= {whole, whole + 1}
    assert np.array_equal(scaled(requests, factor, seed).arrival_seconds, more.arrival_seconds)


def test_copies_are_shifted_as_a_whole() -> None:
    requests = some(50)
    twice = scaled(requests, 2, seed=7)
    others = twice.arrival_seconds[~np.isin(twice.arrival_seconds, requests.arrival_seconds)]
    shifts = np.sort(others[1:-1])  # those that came round lie at the beginning
    assert np.isin(requests.arrival_seconds, twice.arrival_seconds).all()
    gaps = np.round(np.diff(shifts), 9)
    assert np.isin(gaps, np.round(np.diff(requests.arrival_seconds), 9)).mean() > 0.9
    assert not np.array_equal(scaled(requests, 2, seed=8).arrival_seconds, twice.arrival_seconds)
    assert (others.min() - requests.arrival_seconds.min()) % requests.duration_seconds <= JITTER_SECONDS


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), 1e9])
def test_a_scale_that_makes_no_sense_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="rate scale"):
        scaled(some(1000), factor)


def test_the_azure_trace() -> None:
    file = DATA / "azure-llm-2023-conv" / "AzureLLMInferenceTrace_conv.csv"
    if not file.is_file():
        pytest.skip(f"no Azure trace in {DATA}: set STOWAGE_DATA to the folder that holds azure-llm-2023-conv/")
    requests = read_requests(file)
    assert len(requests) == 19_366
    assert requests.duration_seconds == pytest.approx(3502, abs=1)
    assert requests.prompt_tokens.mean() == pytest.approx(1155, abs=1)
    part = read_requests(file, start_seconds=600, seconds=300)
    assert part.arrival_seconds[0] == 0
    assert 290 < part.duration_seconds <= 300


def rates(folder: Path, *rows: str) -> Path:
    written(
        folder,
        QUANTILES + "7,input_tokens,1,0,10,20,30,40,50,60,70,80,90,100,110,120,130\n"
        "7,output_tokens,1,0,1,1,1,1,1,1,5,5,5,5,5,5,5\n",
        "m_token_quantiles.csv",
    )
    return written(folder, RATES + "\n".join(rows) + "\n", "m_client_rates.csv")


def test_rates_become_requests_with_that_rate_and_variation(tmp_path: Path) -> None:
    file = rates(tmp_path, "7,0,20,2,Gamma,0,0", "7,600,5,3,Weibull,0,0", "9,600,5,0.5,Gamma,0,0")
    requests = read_requests(file, seconds=1200, seed=1)
    before = requests.arrival_seconds < 600
    assert before.sum() == pytest.approx(12_000, rel=0.06)
    assert (~before).sum() == pytest.approx(6_000, rel=0.15)
    gaps = np.diff(requests.arrival_seconds[before])
    assert gaps.std() / gaps.mean() == pytest.approx(2.0, rel=0.15)
    assert (
        10 <= requests.prompt_tokens.min() <= np.median(requests.prompt_tokens) <= requests.prompt_tokens.max() <= 130
    )
    assert set(requests.output_tokens.tolist()) <= {1, 2, 3, 4, 5}
    half = read_requests(file, seconds=1200, seed=1, rate_scale=0.5)
    assert len(half) == pytest.approx(len(requests) / 2, rel=0.1)


def test_a_client_keeps_its_own_lengths(tmp_path: Path) -> None:
    file = rates(tmp_path, *(f"{client},0,1,1,Gamma,0,0" for client in (7, 8)))
    quantiles = file.with_name("m_token_quantiles.csv")
    other = "".join(f"8,{field},1,0{',500' * 13}\n" for field in ("input_tokens", "output_tokens"))
    quantiles.write_text(quantiles.read_text() + other)
    for seed in range(3):
        requests = read_requests(file, seconds=600, seed=seed)
        assert 0.3 < (requests.prompt_tokens == 500).mean() < 0.7


@pytest.mark.parametrize(
    ("row", "words"),
    [
        pytest.param("7,0,x,2,Gamma,0,0", "line 2: rate_rps is 'x'", id="no rate"),
        pytest.param("7,0,0,2,Gamma,0,0", "line 2: rate_rps is 0, not more than 0", id="nothing"),
        pytest.param("7,0,1,2,Pareto,0,0", "line 2: pattern is 'Pareto'", id="another distribution"),
        pytest.param("7,90000,1,2,Gamma,0,0", "no client is active", id="another day"),
    ],
)
def test_what_is_wrong_with_rates_is_named(tmp_path: Path, row: str, words: str) -> None:
    with pytest.raises(TraceError) as caught:
        read_requests(rates(tmp_path, row), seconds=600)
    assert words in str(caught.value)


@given(st.floats(0.2, 10))
def test_a_weibull_distribution_has_the_variation_asked_for(variation: float) -> None:
    drawn = np.random.default_rng(0).weibull(weibull_shape(variation), 200_000)
    tolerance = 0.03 if variation < 2 else 0.6  # of heavy tails a sample tells less
    assert drawn.std() / drawn.mean() == pytest.approx(variation, rel=tolerance)


@pytest.mark.parametrize(
    ("shape", "early", "middle", "late"),
    [
        pytest.param(Shape.RAMP, 1.5, 5.5, 9.5, id="a ramp rises"),
        pytest.param(Shape.SPIKE, 1.0, 10.0, 1.0, id="a spike stands in the middle"),
        pytest.param(Shape.DIURNAL, 1.5, 9.9, 1.06, id="a day has its noon"),
        pytest.param(Shape.ON_OFF, 10.0, 10.0, 1.0, id="on and off"),
    ],
)
def test_shapes_have_their_rates(shape: Shape, early: float, middle: float, late: float) -> None:
    requests = synthetic(shape, seconds=36_000, low_per_second=1, high_per_second=10, seed=5)
    counts = np.histogram(requests.arrival_seconds, bins=20, range=(0, 36_000))[0] / 1800
    if shape is Shape.ON_OFF:
        counts = np.repeat(np.histogram(requests.arrival_seconds, bins=12, range=(0, 36_000))[0] / 3000, 2)[:20]
        counts[10], counts[19] = counts[8], counts[2]
    found = (counts[1], counts[10], counts[-1])
    expected = (early, middle, late) if shape is not Shape.RAMP else (1.7, 5.7, 9.8)
    assert found == pytest.approx(expected, rel=0.15, abs=0.25)


@pytest.mark.parametrize(
    ("seconds", "low", "high"), [(0, 1, 2), (10, 3, 2), (10, -1, 2), (1e9, 1, 2), (float("inf"), 1, 2)]
)
def test_shapes_that_make_no_sense_are_refused(seconds: float, low: float, high: float) -> None:
    with pytest.raises(ValueError, match=r"shape needs|more than"):
        synthetic(Shape.RAMP, seconds=seconds, low_per_second=low, high_per_second=high, seed=0)
