"""``python -m conformance``: the project and real QEMU judge the same pairs.

Ends with status 0 if they agree on all of them, and every outcome is among them if there are a
thousand or more. A disagreement is shrunk, printed with the command that judges it again, and kept
in ``tests/conformance/regressions``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from vfio_preflight.qemu.model.boards import X86
from vfio_preflight.qemu.trial import shim

from .cases import Case, case_from_json, to_json
from .drawing import adapt, draw_cases, shrink
from .dumps import cases_of, real_states
from .engine import Engine, Judged, judge, make_engines
from .maskmaps import MAPPED, bytes_of, check_maps
from .record import record
from .report import counts, described, is_complete

REGRESSIONS = Path(__file__).with_name("regressions")
EMULATOR = "/usr/bin/qemu-system-x86_64"
ENOUGH = 1000  # pairs in which every outcome occurs, or else something is wrong with the drawing
TO_RECORD = 5000  # pairs that make an emulator a verified one
_BLOCK = 500
_MAX_SHOWN = 12


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory() as directory:
        library = shim.build(f"{directory}/fakevfio.so")
        engines = make_engines(options.emulator or [EMULATOR], library)
        if options.case:
            cases = [case_from_json(Path(path).read_text()) for path in options.case]
            return max([_judge(engine, "given cases", cases) for engine in engines])
        return max([_run(engine, options) for engine in engines])


def _options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m conformance",
        description="Let the project and real QEMU judge pairs of config states.",
    )
    parser.add_argument(
        "--n", type=int, default=1000, help="pairs to judge, by each emulator and each two"
    )
    parser.add_argument("--seed", type=int, default=1, help="which pairs")
    parser.add_argument(
        "--emulator",
        action="append",
        metavar="PATH",
        help="repeatable; each migrates to itself and to each other",
    )
    parser.add_argument("--case", action="append", metavar="FILE", help="judge these cases alone")
    parser.add_argument("--masks", action="store_true", help="map the masks of whole devices too")
    parser.add_argument(
        "--record",
        action="store_true",
        help=f"list emulators that agree as verified: with --masks and --n {TO_RECORD} or more",
    )
    options = parser.parse_args(arguments)
    if options.record and (options.case or not options.masks or options.n < TO_RECORD):
        parser.error(f"--record needs --masks and --n {TO_RECORD} or more, and no --case")
    return options


def _run(engine: Engine, options: argparse.Namespace) -> int:
    failed = _drawn(engine, options.n, options.seed)
    real = [
        adapt(case, engine.facts, engine.sender.facts)
        for _, state in real_states()
        for case in cases_of(state)
    ]
    failed |= _judge(engine, "real devices' config spaces", real)
    # The masks are the destination's alone, and so is what an emulator is verified by.
    if engine.is_pair:
        return failed
    if options.masks:
        failed |= _masks(engine)
    if options.record and not failed:
        _record(engine, options)
    return failed


def _record(engine: Engine, options: argparse.Namespace) -> None:
    # One entry a release, that of the PC: other boards are in their table (qemu.model.boards).
    if f"/usr/bin/qemu-system-{engine.facts.target}" not in X86.emulators:
        print(f"{engine.name}: not listed, for it emulates {engine.facts.target}")
        return
    record(engine.facts, options.n, options.seed)


def _drawn(engine: Engine, number: int, seed: int) -> int:
    cases = [adapt(case, engine.facts, engine.sender.facts) for case in draw_cases(number, seed)]
    judged, seconds = _timed(engine, cases)
    wrong = [one for one in judged if not one.agrees]
    print(f"{engine.name}: {len(cases)} pairs of seed {seed} in {seconds:.0f} s")
    print(f"  {counts(judged)}; disagreements: {len(wrong)}", flush=True)
    complete = is_complete(judged)
    if not complete:
        print("  an outcome has not occurred: draw more pairs (--n)")
    if wrong:
        _report(engine, number, seed, judged, wrong)
    return int(bool(wrong) or (number >= ENOUGH and not complete))


def _judge(engine: Engine, what: str, cases: Sequence[Case]) -> int:
    judged, seconds = _timed(
        engine, [adapt(case, engine.facts, engine.sender.facts) for case in cases]
    )
    wrong = [one for one in judged if not one.agrees]
    print(f"{engine.name}: {len(cases)} pairs of {what} in {seconds:.0f} s")
    print(f"  {counts(judged)}; disagreements: {len(wrong)}", flush=True)
    for one in wrong[:_MAX_SHOWN]:
        print(described(engine, one))
    return int(bool(wrong))


def _timed(engine: Engine, cases: Sequence[Case]) -> tuple[list[Judged], float]:
    started = time.monotonic()
    judged = []
    for at in range(0, len(cases), _BLOCK):
        judged += judge(engine, cases[at : at + _BLOCK])
    return judged, time.monotonic() - started


def _masks(engine: Engine) -> int:
    started = time.monotonic()
    _, wrong = check_maps(engine)
    seconds = time.monotonic() - started
    print(f"{engine.name}: mask maps, {bytes_of(MAPPED)} bytes in {seconds:.0f} s")
    print(f"  bytes that are treated otherwise than predicted: {len(wrong)}", flush=True)
    for one in wrong[:_MAX_SHOWN]:
        print(f"  {one}")
    return int(bool(wrong))


def _report(
    engine: Engine, number: int, seed: int, judged: Sequence[Judged], wrong: Sequence[Judged]
) -> None:
    for one in wrong[:_MAX_SHOWN]:
        print(described(engine, one))
    known = {one.case: one.agrees for one in judged}

    def disagrees(case: Case) -> bool:
        case = adapt(case, engine.facts, engine.sender.facts)
        if case not in known:
            known[case] = judge(engine, [case])[0].agrees
        return not known[case]

    smallest = shrink(number, seed, disagrees)
    if smallest is not None:
        _keep(engine, adapt(smallest, engine.facts, engine.sender.facts), seed)


def _keep(engine: Engine, case: Case, seed: int) -> None:
    versions = dict.fromkeys((engine.sender.facts.version, engine.facts.version))
    path = REGRESSIONS / f"qemu-{'-to-'.join(versions)}-seed-{seed}.json"
    path.write_text(to_json(case))
    print(f"\nThe smallest case for which they disagree, now {path}:\n{to_json(case)}")
    print(described(engine, judge(engine, [case])[0]))
    paths = dict.fromkeys((engine.sender.executable.path, engine.receiver.executable.path))
    asked = " ".join(f"--emulator {each}" for each in paths)
    print(f"  python -m conformance {asked} --case {path}")


if __name__ == "__main__":
    sys.exit(main())
