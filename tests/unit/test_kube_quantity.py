from __future__ import annotations

import pytest

from stowage_scheduler.kube.quantity import QuantityError, in_own_unit, parse_quantity, to_milli, to_units


@pytest.mark.parametrize(
    ("text", "milli", "units"),
    [
        pytest.param("0", 0, 0, id="zero"),
        pytest.param("500m", 500, 1, id="half a core is one whole unit, rounded up"),
        pytest.param("1.5", 1500, 2, id="a decimal point"),
        pytest.param(".5", 500, 1, id="no digit before the point"),
        pytest.param("2.", 2000, 2, id="no digit after the point"),
        pytest.param("+3", 3000, 3, id="a plus sign"),
        pytest.param("100n", 1, 1, id="nanos round up to one milli"),
        pytest.param("1u", 1, 1, id="micros round up"),
        pytest.param("0.1n", 1, 1, id="less than a nano is still something"),
        pytest.param("1e-30", 1, 1, id="a far exponent is still something"),
        pytest.param("0e999999", 0, 0, id="zero stays zero whatever the exponent"),
        pytest.param("1k", 10**6, 1000, id="kilo"),
        pytest.param("1Ki", 1024000, 1024, id="kibi"),
        pytest.param("1.5Gi", 1610612736000, 1610612736, id="binary fraction is exact"),
        pytest.param("0.1Gi", 107374182400, 107374183, id="binary fraction rounds up"),
        pytest.param("2e3", 2 * 10**6, 2000, id="exponent"),
        pytest.param("2E+3", 2 * 10**6, 2000, id="capital exponent with sign"),
        pytest.param("0.001E", 10**18, 10**15, id="exa is not an exponent"),
        pytest.param(4, 4000, 4, id="a JSON integer"),
        pytest.param(0.1, 100, 1, id="a JSON float keeps its decimal meaning"),
    ],
)
def test_reads_a_quantity_exactly(text: str | float, milli: int, units: int) -> None:
    nanos = parse_quantity(text)
    assert (to_milli(nanos), to_units(nanos)) == (milli, units)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        pytest.param("", "must be a Kubernetes quantity", id="nothing"),
        pytest.param(".", "must be a Kubernetes quantity", id="a lone point"),
        pytest.param("Mi", "must be a Kubernetes quantity", id="a suffix without a number"),
        pytest.param("1 Gi", "must be a Kubernetes quantity", id="a space"),
        pytest.param("1gi", "must be a Kubernetes quantity", id="a suffix in the wrong case"),
        pytest.param("1e", "must be a Kubernetes quantity", id="an exponent without digits"),
        pytest.param("1Mi2", "must be a Kubernetes quantity", id="two numbers"),
        pytest.param("\u0661", "must be a Kubernetes quantity", id="digits of another script"),
        pytest.param("9" * 10_000_000, "must be a Kubernetes quantity", id="ten million digits"),
        pytest.param(float("inf"), "must be a Kubernetes quantity", id="infinity"),
        pytest.param(float("nan"), "must be a Kubernetes quantity", id="not a number"),
        pytest.param("-1", "must not be negative", id="less than nothing"),
        pytest.param(-0.5, "must not be negative", id="a negative JSON float"),
        pytest.param("1e999999999999", r"at most 2\^53", id="an exponent that would fill the memory"),
        pytest.param("16Ei", r"at most 2\^53", id="more bytes than there are"),
    ],
)
def test_refuses_what_is_no_amount(text: str | float, rule: str) -> None:
    with pytest.raises(QuantityError, match=rule):
        parse_quantity(text)


def test_cpu_counts_in_milli_and_all_else_in_units() -> None:
    nanos = parse_quantity("1.5")
    assert (in_own_unit("cpu", nanos), in_own_unit("nvidia.com/gpu", nanos)) == (1500, 2)


def test_cpu_is_bounded_in_milli() -> None:
    with pytest.raises(QuantityError, match="milli-CPU"):
        in_own_unit("cpu", parse_quantity(2**53))
