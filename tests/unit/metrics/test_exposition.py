"""Samples in both text formats, as the parsers of Prometheus' own library read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as open_metrics_parser
from prometheus_client.parser import text_string_to_metric_families

from chimirror.metrics import families
from chimirror.metrics.exposition import (
    OPEN_METRICS_TYPE,
    TEXT_TYPE,
    prefers_open_metrics,
    render,
)
from chimirror.metrics.families import (
    COUNTER,
    FAMILIES,
    GAUGE,
    START_BUCKETS,
    Histogram,
    bucket_of,
)

PROMETHEUS = (  # as version 2.42 sends it
    "application/openmetrics-text;version=1.0.0,"
    "application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
Read = dict[str, dict[tuple[tuple[str, str], ...], float]]
Written = dict[str, dict[tuple[str, ...], int | float | Histogram]]


def read(text: bytes, *, open_metrics: bool) -> tuple[Read, dict[str, tuple[str, str]]]:
    """Return the samples by name and labels, and type and help by name."""
    parse = text_string_to_metric_families
    if open_metrics:
        parse = open_metrics_parser.text_string_to_metric_families
    samples: Read = {}
    types = {}
    for family in parse(text.decode()):
        types[family.name] = family.type, family.documentation
        for sample in family.samples:
            key = tuple(sorted(sample.labels.items()))
            found = samples.setdefault(sample.name, {})
            assert key not in found
            found[key] = sample.value
    return samples, types


def both(samples: Written) -> Read:
    """Return the samples that both parsers read, and check that they are equal."""
    results = [
        read(render(samples, open_metrics=new), open_metrics=new)
        for new in (False, True)
    ]
    assert results[0] == results[1]
    return results[0][0]


def test_all_families() -> None:
    samples: Written = {
        family.name: {
            tuple("x" for _ in family.labels): 1
            if family.kind in (COUNTER, GAUGE)
            else Histogram()
        }
        for family in FAMILIES
    }
    for new in (False, True):
        found, types = read(render(samples, open_metrics=new), open_metrics=new)
        for family in FAMILIES:
            name = family.name.removesuffix("_total")
            assert types[name] == (family.kind, family.help)
            suffix = "_count" if family.kind not in (COUNTER, GAUGE) else ""
            (key,) = found[family.name + suffix]
            assert [label for label, _ in key] == sorted(family.labels)


def test_every_family_can_be_named() -> None:
    named = (
        *(families.SESSIONS, families.SESSIONS_ENDED, families.REFUSALS),
        *(families.BYTES, families.MESSAGES, families.START_SECONDS),
        *(families.SPARES, families.CAPACITY, families.LOOP_LAG, families.RESTARTS),
    )
    assert named == FAMILIES


def test_content_types() -> None:
    assert prefers_open_metrics(OPEN_METRICS_TYPE)
    assert not prefers_open_metrics(TEXT_TYPE)


def test_names_of_counters() -> None:
    samples: Written = {"chimirror_refusals_total": {("host",): 3}}
    text = render(samples).decode()
    assert "# TYPE chimirror_refusals_total counter\n" in text
    assert '\nchimirror_refusals_total{cause="host"} 3\n' in text
    text = render(samples, open_metrics=True).decode()
    assert "# TYPE chimirror_refusals counter\n" in text
    assert '\nchimirror_refusals_total{cause="host"} 3\n# EOF\n' in text


def test_no_samples() -> None:
    assert render({}) == b""
    assert render({"chimirror_spares": {}}, open_metrics=True) == b"# EOF\n"


def test_histogram() -> None:
    histogram = Histogram()
    for value in (0.0005, 0.001, 0.3, 100.0):
        histogram.observe(value)
    found = both({"chimirror_start_seconds": {(): histogram}})
    buckets = {
        float(key[0][1]): value
        for key, value in found["chimirror_start_seconds_bucket"].items()
    }
    assert list(buckets) == [*START_BUCKETS, float("inf")]
    assert [buckets[bound] for bound in (0.001, 0.25, 0.5, 10.0)] == [2, 2, 3, 3]
    assert buckets[float("inf")] == found["chimirror_start_seconds_count"][()] == 4
    assert found["chimirror_start_seconds_sum"][()] == pytest.approx(100.3015)


@given(st.floats(0, 1e9))
def test_buckets_have_their_upper_bound(value: float) -> None:
    index = bucket_of(value)
    assert index == len(START_BUCKETS) or value <= START_BUCKETS[index]
    assert index == 0 or value > START_BUCKETS[index - 1]


# The reference parsers split lines at other separators too: names hold none of them.
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])) | st.text(
    st.sampled_from('\\"\n{},= #')
)


@given(
    st.dictionaries(
        st.tuples(NAMES, NAMES), st.integers(0, 2**53) | st.floats(0, 1e300)
    )
)
def test_labels_are_escaped(
    samples: dict[tuple[str, ...], int | float | Histogram],
) -> None:
    found = both({"chimirror_sessions": samples})
    expected = {
        (("application", application), ("state", state)): value
        for (application, state), value in samples.items()
    }
    assert found.get("chimirror_sessions", {}) == expected


def test_special_numbers() -> None:
    values: dict[tuple[str, ...], int | float | Histogram] = {
        ("a",): float("inf"),
        ("b",): float("-inf"),
        ("c",): 1e-07,
    }
    found = both({"chimirror_loop_lag_seconds": values})["chimirror_loop_lag_seconds"]
    assert list(found.values()) == [float("inf"), float("-inf"), 1e-07]
    text = render({"chimirror_loop_lag_seconds": {("a",): float("nan")}})
    assert text.endswith(b" NaN\n")


def test_text_that_is_not_unicode() -> None:
    samples: Written = {"chimirror_refusals_total": {("\udcff",): 1}}
    assert b'{cause="?"} 1\n' in render(samples)


def test_unknown_family() -> None:
    with pytest.raises(KeyError, match="chimirror_session"):
        render({"chimirror_session": {(): 1}})


def test_missing_label() -> None:
    with pytest.raises(ValueError, match="shorter"):
        render({"chimirror_sessions": {("sh",): 1}})


@pytest.mark.parametrize(
    ("accept", "preferred"),
    [
        (PROMETHEUS, True),
        ("application/openmetrics-text", True),
        ('Application/OpenMetrics-Text; version="1.0.0"; charset=utf-8', True),
        ("application/openmetrics-text;version=0.0.1", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.4,text/plain;q=0.5", False),
        ("application/openmetrics-text;q=0.5,text/plain;q=0.5", True),
        ("application/openmetrics-text;q=high", False),
        ("text/plain;version=0.0.4", False),
        ("*/*", False),
        ("", False),
        (",;,=;q", False),
    ],
)
def test_preferred_format(accept: str, preferred: bool) -> None:
    assert prefers_open_metrics(accept) is preferred
