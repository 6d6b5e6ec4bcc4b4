"""Events counted, and the counts as Prometheus reads them.

A count is kept under the text of its sample, ``NAME{label="value"}``: what is stored is what is
shown. Every sample that can come is there from the first with 0: the rate of a counter is only seen
from its second value on.

Source: Prometheus, "Exposition formats" and "Metric and label naming"; node exporter, "Textfile
Collector".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from itertools import product

from ..host.history import OUTCOMES
from ..judge import codes
from ..judge.verdicts import FAIL, STRICTNESS, UNKNOWN, VERDICTS
from ..osutil.light import TYPE_CHECKING, NamedTuple
from .events import DECISION, EVENTS, OUTCOME, PREDICTIONS, SCHEMA

if TYPE_CHECKING:
    from typing import Any

    Counts = MutableMapping[str, float]

# What a guest is judged at; at prepare only the check itself can fail.
OPERATIONS = ("migrate", "started", "restore", "prepare")
# Seconds of work: a check takes some 40 ms, one with a trial 0.2 s, the deadline is 10 s.
BUCKETS = ("0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf")

# Beyond any count, and any number of seconds.
MOST = 1e15

VERDICTS_TOTAL = "vfio_preflight_verdicts_total"
ACTIONS_TOTAL = "vfio_preflight_actions_total"
FINDINGS_TOTAL = "vfio_preflight_findings_total"
OUTCOMES_TOTAL = "vfio_preflight_outcomes_total"
DURATION = "vfio_preflight_check_duration_seconds"
WAIT = "vfio_preflight_turn_wait_seconds"
UNREAD_TOTAL = "vfio_preflight_audit_lines_unread_total"
LAST_PASS = "vfio_preflight_watch_last_pass_timestamp_seconds"
BUILD_INFO = "vfio_preflight_build_info"


class Metric(NamedTuple):
    """A name with its type, what it says, and its samples as they begin."""

    name: str
    kind: str
    text: str
    samples: tuple[str, ...]


def sample(name: str, **labels: str) -> str:
    """The text before a sample's value. No label's value here has a character to be escaped."""
    inside = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{inside}}}" if inside else name


def _times(name: str) -> Iterator[str]:
    """The sum and the count of a time, for each operation."""
    for operation, part in product(OPERATIONS, ("sum", "count")):
        yield sample(f"{name}_{part}", operation=operation)


def _buckets() -> Iterator[str]:
    for operation, bound in product(OPERATIONS, BUCKETS):
        yield sample(f"{DURATION}_bucket", operation=operation, le=bound)


# Of the codes that a verdict is worse for.
_PROBLEMS = {
    str(code): code.verdict for code in codes.CODES.values() if code.verdict in (UNKNOWN, FAIL)
}

METRICS = (
    Metric(
        VERDICTS_TOTAL,
        "counter",
        "Guests judged, by operation of the hook and verdict.",
        tuple(
            sample(VERDICTS_TOTAL, operation=operation, verdict=verdict)
            for operation, verdict in product(OPERATIONS, VERDICTS)
        ),
    ),
    Metric(
        ACTIONS_TOTAL,
        "counter",
        "Guests judged, by operation of the hook and what was done.",
        tuple(
            sample(ACTIONS_TOTAL, operation=operation, action=action)
            for operation, action in product(OPERATIONS, STRICTNESS)
        ),
    ),
    Metric(
        FINDINGS_TOTAL,
        "counter",
        "Guests judged of which something was unknown or failed, by code and verdict of the"
        " finding.",
        tuple(sample(FINDINGS_TOTAL, code=c, verdict=v) for c, v in _PROBLEMS.items()),
    ),
    Metric(
        DURATION,
        "histogram",
        "Seconds of work that a decision took, without the wait for its turn.",
        (*_buckets(), *_times(DURATION)),
    ),
    Metric(
        WAIT,
        "summary",
        "Seconds that a decision waited for its turn, where many were made at once.",
        tuple(_times(WAIT)),
    ),
    Metric(
        OUTCOMES_TOTAL,
        "counter",
        "Ends of incoming migrations, by what became of them and whether that was predicted.",
        tuple(
            sample(OUTCOMES_TOTAL, outcome=outcome, prediction=prediction)
            for outcome, prediction in product(OUTCOMES, PREDICTIONS.values())
        ),
    ),
    Metric(
        UNREAD_TOTAL,
        "counter",
        "Lines of the audit log that were no event of this version's.",
        (UNREAD_TOTAL,),
    ),
)


def initial() -> dict[str, float]:
    """Every count at 0."""
    return {text: 0 for metric in METRICS for text in metric.samples}


def kept(stored: object) -> dict[str, float]:
    """Counts that were stored, perhaps by another version; what is none of them is left out."""
    counts = initial()
    known = stored.items() if isinstance(stored, dict) else ()
    counts.update((text, number) for text, number in known if text in counts and _is(number))
    return counts


def _is(number: object) -> bool:
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    # JSON, as Python reads it, has NaN and Infinity, which would stay in a sum for good.
    return is_number and 0 <= number < MOST  # type: ignore[operator]


def count(counts: Counts, event: object) -> None:
    """Add ``event``, what a line of the audit log says: all of it, or it counts as not read."""
    try:
        found = [*_samples(event)] if _is_event(event) else [("", 0.0)]
        sound = all(text in counts and _is(by) for text, by in found)
    # Another structure than an event's.
    except (TypeError, KeyError, AttributeError):
        found, sound = [], False
    for text, by in found if sound else ((UNREAD_TOTAL, 1),):
        counts[text] += by


def _is_event(event: Any) -> bool:  # noqa: ANN401 - it is JSON
    return event["schema"] == SCHEMA and event["event"] in EVENTS


def _samples(event: Any) -> Iterator[tuple[str, float]]:  # noqa: ANN401
    """What an event adds to, and by how much."""
    if event["event"] == OUTCOME:
        labels = {name: event[name] for name in ("outcome", "prediction")}
        yield sample(OUTCOMES_TOTAL, **labels), 1
    elif event["event"] == DECISION:
        operation = event["operation"]
        yield sample(VERDICTS_TOTAL, operation=operation, verdict=event["verdict"]), 1
        yield sample(ACTIONS_TOTAL, operation=operation, action=event["action"]), 1
        for code in _codes(event):
            if code in _PROBLEMS:
                yield sample(FINDINGS_TOTAL, code=code, verdict=_PROBLEMS[code]), 1
        yield from _took(operation, event["seconds"], event["waited"])


def _codes(event: Mapping[str, Any]) -> Iterable[str]:
    """Each code of an event once."""
    found = [*event["codes"], *(code for device in event["devices"] for code in device["codes"])]
    return dict.fromkeys(found)


def _took(operation: str, seconds: float, waited: float) -> Iterator[tuple[str, float]]:
    for name, value in ((DURATION, seconds), (WAIT, waited)):
        yield sample(f"{name}_sum", operation=operation), value
        yield sample(f"{name}_count", operation=operation), 1
    for bound in BUCKETS:
        if seconds <= float(bound):
            yield sample(f"{DURATION}_bucket", operation=operation, le=bound), 1


def exposition(counts: Mapping[str, float], version: str, last_pass: float | None) -> str:
    """All metrics in Prometheus' text format; ``last_pass`` is that of ``watch``, if any was."""
    info = sample(BUILD_INFO, version=version)
    parts = [_shown(BUILD_INFO, "gauge", "The version of vfio-preflight.", [(info, 1)])]
    parts += [
        _shown(metric.name, metric.kind, metric.text, ((s, counts[s]) for s in metric.samples))
        for metric in METRICS
    ]
    if last_pass is not None:
        text = "When watch was last at work and connected to libvirt."
        parts.append(_shown(LAST_PASS, "gauge", text, [(LAST_PASS, last_pass)]))
    return "".join(parts)


def _shown(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> str:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    # No timestamps: the textfile collector refuses them.
    lines += [f"{sample} {round(value, 6):.16g}" for sample, value in samples]
    return "\n".join(lines) + "\n"
