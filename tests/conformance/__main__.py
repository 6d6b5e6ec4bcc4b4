"""``python -m conformance``: the project and real QEMU judge the same pairs.

Ends with status 0 if they agree on all of them. A disagreement is shrunk, printed with the command
that judges it again, and kept in ``tests/conformance/regressions``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vfio_preflight.qemu import shim

from .cases import Case, case_from_json, to_json
from .drawing import adapt, draw_cases, shrink
from .engine import Engine, Judged, judge, make_engine

REGRESSIONS = Path(__file__).with_name("regressions")
EMULATOR = "/usr/bin/qemu-system-x86_64"
_BLOCK = 500
_MAX_SHOWN = 12


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory() as directory:
        library = shim.build(f"{directory}/fakevfio.so")
        engines = [make_engine(path, library) for path in options.emulator or [EMULATOR]]
        if options.case:
            cases = [case_from_json(Path(path).read_text()) for path in options.case]
            return _replay(engines, cases)
        return max([_run(engine, options.n, options.seed) for engine in engines])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__)
    parser.add_argument("--n", type=int, default=1000, help="pairs to judge, by each emulator")
    parser.add_argument("--seed", type=int, default=1, help="which pairs")
    parser.add_argument("--emulator", action="append", metavar="PATH", help="repeatable")
    parser.add_argument("--case", action="append", metavar="FILE", help="judge these cases alone")
    return parser.parse_args()


def _replay(engines: Sequence[Engine], cases: Sequence[Case]) -> int:
    failed = 0
    for engine in engines:
        for judged in judge(engine, [adapt(case, engine.facts) for case in cases]):
            failed += not judged.agrees
            print(_described(engine, judged))
    return min(failed, 1)


def _run(engine: Engine, number: int, seed: int) -> int:
    started = time.monotonic()
    cases = [adapt(case, engine.facts) for case in draw_cases(number, seed)]
    drawn = time.monotonic()
    judged = []
    for at in range(0, len(cases), _BLOCK):
        judged += judge(engine, cases[at : at + _BLOCK])
    wrong = [one for one in judged if not one.agrees]
    print(f"{engine.name}, seed {seed}: {len(cases)} pairs")
    print(f"  drawn in {drawn - started:.1f} s, judged in {time.monotonic() - drawn:.1f} s")
    print(f"  {_counts(judged)}; disagreements: {len(wrong)}")
    if wrong:
        _report(engine, number, seed, judged, wrong)
    return min(len(wrong), 1)


def _counts(judged: Sequence[Judged]) -> str:
    counts = Counter(one.real.outcome for one in judged)
    return ", ".join(f"{outcome}: {number}" for outcome, number in sorted(counts.items()))


def _report(
    engine: Engine, number: int, seed: int, judged: Sequence[Judged], wrong: Sequence[Judged]
) -> None:
    for one in wrong[:_MAX_SHOWN]:
        print(_described(engine, one))
    known = {one.case: one.agrees for one in judged}

    def disagrees(case: Case) -> bool:
        case = adapt(case, engine.facts)
        if case not in known:
            known[case] = judge(engine, [case])[0].agrees
        return not known[case]

    smallest = shrink(number, seed, disagrees)
    if smallest is not None:
        _keep(engine, adapt(smallest, engine.facts))


def _keep(engine: Engine, case: Case) -> None:
    text = to_json(case)
    path = REGRESSIONS / f"{abs(hash(text)) % 16**8:08x}.json"
    path.write_text(text)
    print(f"\nThe smallest case for which they disagree, now {path}:\n{text}")
    print(_described(engine, judge(engine, [case])[0]))
    print(f"  python -m conformance --emulator {engine.executable.path} --case {path}")


def _described(engine: Engine, one: Judged) -> str:
    case = one.case
    verdict = "agree" if one.agrees else "DISAGREE"
    return (
        f"{verdict}: {engine.name}, {case.machine_type}, {case.placement}, {case.globals}\n"
        f"  source {case.source.properties}, destination {case.destination.properties}\n"
        f"  predicted {one.predicted}\n  real      {one.real}"
    )


sys.exit(main())
