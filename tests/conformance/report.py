"""What a run says of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vfio_preflight.qemu.trial.trial import ABORT, CRASH, ERROR, FAIL, HANG, PASS

from .engine import Engine, Judged

# In the report's order; an abort by an assertion and a crash are one to an operator.
_OUTCOMES = {
    "pass": (PASS,),
    "fail": (FAIL,),
    "realise error": (ERROR,),
    "abort": (ABORT, CRASH),
    "hang": (HANG,),
}


def counts(judged: Sequence[Judged]) -> str:
    """Pairs by outcome, as real QEMU has it."""
    found = Counter(one.real.outcome for one in judged)
    parts = [f"{name}: {sum(found[one] for one in ones)}" for name, ones in _OUTCOMES.items()]
    if found["unavailable"]:
        parts.append(f"no verdict: {found['unavailable']}")
    return ", ".join(parts)


def is_complete(judged: Sequence[Judged]) -> bool:
    """Whether every outcome has occurred."""
    found = {one.real.outcome for one in judged}
    return all(found.intersection(ones) for ones in _OUTCOMES.values())


def described(engine: Engine, one: Judged) -> str:
    """A case and both verdicts, in a few lines."""
    case = one.case
    verdict = "agree" if one.agrees else "DISAGREE"
    sizes = f"{len(case.source.config)} to {len(case.destination.config)} bytes"
    return (
        f"{verdict}: {engine.name}, {case.machine_type}, {case.placement}, {sizes},"
        f" globals {case.globals}\n"
        f"  source {case.source.properties}, destination {case.destination.properties}\n"
        f"  predicted {one.predicted}\n  real      {one.real}"
    )
