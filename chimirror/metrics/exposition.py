"""Writes samples in the text formats of Prometheus: text 0.0.4 and OpenMetrics 1.0.

Text 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/
OpenMetrics 1.0: https://prometheus.io/docs/specs/om/open_metrics_spec/

Knows no server: a response or a file takes the bytes.
"""

from __future__ import annotations

from chimirror.metrics.families import COUNTER, FAMILIES, START_BUCKETS, Histogram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chimirror.metrics.families import Family

    Value = int | float | Histogram
    # Values by the name of their family and by the values of its labels.
    Samples = Mapping[str, Mapping[tuple[str, ...], Value]]

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_OPEN_METRICS, _TEXT = "application/openmetrics-text", "text/plain"
_SUFFIX = "_total"


def render(samples: Samples, *, open_metrics: bool = False) -> bytes:
    r"""Write samples of FAMILIES, in their order. Families without a sample are absent.

    Args:
        samples: For example `{"chimirror_sessions": {("sh", "open"): 3}}`. The key of a
            family without labels is `()`.
        open_metrics: Write OpenMetrics 1.0, not text 0.0.4.

    Raises:
        KeyError: A family is unknown.
        ValueError: A key has not as many values as its family has labels.
    """
    rest = dict(samples)
    lines: list[str] = []
    for family in FAMILIES:
        found = rest.pop(family.name, None)
        if found:
            lines += _head(family, open_metrics=open_metrics)
            for key in sorted(found):
                lines += _sample(family, key, found[key])
    if rest:
        raise KeyError(*rest)
    if open_metrics:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines).encode(errors="replace")


def prefers_open_metrics(accept: str) -> bool:
    """Return True if a field Accept (RFC 9110, 12.5.1) prefers OpenMetrics 1.0.

    A client that accepts neither format gets text 0.0.4.
    """
    best = {_OPEN_METRICS: 0.0, _TEXT: 0.0}
    for element in accept.lower().split(","):
        media_type, *rest = (part.strip() for part in element.split(";"))
        parameters = dict(part.partition("=")[::2] for part in rest)
        version = parameters.get("version", "").strip('"')
        if media_type == _OPEN_METRICS and version not in ("", "1.0.0"):
            continue
        if media_type in best:
            quality = _quality(parameters.get("q", "1"))
            best[media_type] = max(best[media_type], quality)
    return best[_OPEN_METRICS] > 0 and best[_OPEN_METRICS] >= best[_TEXT]


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _head(family: Family, *, open_metrics: bool) -> Iterator[str]:
    name = family.name
    if open_metrics and family.kind == COUNTER:
        name = name.removesuffix(_SUFFIX)
    yield f"# HELP {name} {family.help}"
    yield f"# TYPE {name} {family.kind}"


def _sample(family: Family, key: tuple[str, ...], value: Value) -> Iterator[str]:
    labels = [
        f'{name}="{_escape(text)}"'
        for name, text in zip(family.labels, key, strict=True)
    ]
    if not isinstance(value, Histogram):
        yield f"{family.name}{_braces(labels)} {_number(value)}"
        return
    count = 0
    bounds = [*map(_number, START_BUCKETS), "+Inf"]
    for bound, number in zip(bounds, value.counts, strict=True):
        count += number
        place = _braces([*labels, f'le="{bound}"'])
        yield f"{family.name}_bucket{place} {count}"
    yield f"{family.name}_count{_braces(labels)} {count}"
    yield f"{family.name}_sum{_braces(labels)} {_number(value.sum)}"


def _braces(labels: list[str]) -> str:
    return f"{{{','.join(labels)}}}" if labels else ""


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    """Return a number as both formats take it: `3`, `0.25`, `+Inf`, `NaN`."""
    text = repr(value)
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text)
