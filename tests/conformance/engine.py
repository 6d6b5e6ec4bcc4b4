"""Real QEMU's judgement of many cases, in batches where that is safe.

Cases of one machine type and placement share two processes: one sends the sources' sections, the
other loads them one after the other (``loader``). A case that the project expects to be refused,
whose sides are of different sizes, or whose batch came to grief, has a trial of its own
(``vfio_preflight.qemu.trial.trial``): two processes and a real migration.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from typing import Any, NamedTuple

from vfio_preflight.osutil.executable import Executable, trusted_executable
from vfio_preflight.qemu.emulator.client import ProcessError
from vfio_preflight.qemu.emulator.facts import emulator_facts
from vfio_preflight.qemu.emulator.machines import EmulatorFacts
from vfio_preflight.qemu.model.quirks import is_intel_vga
from vfio_preflight.qemu.trial.trial import ERROR, FAIL, PASS, Result, TrialUnavailable, trial
from vfio_preflight.qemu.trial.workbench import Limits, workbench

from .cases import Case
from .loader import MAX_DEVICES, Loader, LoaderError, devices_options, make_image, send, topology
from .prediction import predict

_LIMITS = Limits(life=60, cpu=1)
_PATIENCE = 30.0  # seconds for a trial; only a machine under load takes more than one
WORKERS = os.cpu_count() or 1


class Build(NamedTuple):
    """An emulator to ask, and what it says of itself."""

    executable: Executable
    facts: EmulatorFacts

    @property
    def name(self) -> str:
        """``QEMU 10.0.2 (/usr/bin/qemu-system-x86_64)``."""
        return f"QEMU {self.facts.version} ({self.executable.path})"


class Engine(NamedTuple):
    """The emulators of source and destination, often one, and what asking them takes."""

    sender: Build
    receiver: Build
    library: str
    image: bytes

    @property
    def facts(self) -> EmulatorFacts:
        """What the destination's emulator says of itself."""
        return self.receiver.facts

    @property
    def is_pair(self) -> bool:
        """Whether the two are different builds."""
        return self.sender != self.receiver

    @property
    def name(self) -> str:
        """The emulator, or ``QEMU 10.0.2 (…) to QEMU 11.1.3 (…)``."""
        if not self.is_pair:
            return self.receiver.name
        return f"{self.sender.name} to {self.receiver.name}"


def make_engine(path: str, library: str, sender: str = "") -> Engine:
    """The emulator at ``path``, on both sides or with another as ``sender``.

    ``library`` is the compiled shim.
    """
    receiver = _build(path)
    with workbench(library) as bench:
        image = make_image(bench, receiver.executable)
    return Engine(_build(sender) if sender else receiver, receiver, library, image)


def make_engines(paths: Sequence[str], library: str) -> list[Engine]:
    """Each of the emulators by itself, and then each two of them, in both directions."""
    pairs = [make_engine(to, library, sender) for sender, to in permutations(paths, 2)]
    return [*(make_engine(path, library) for path in paths), *pairs]


def _build(path: str) -> Build:
    deadline = time.monotonic() + _PATIENCE
    return Build(trusted_executable(path), emulator_facts(path, cache_dir=None, deadline=deadline))


class Judged(NamedTuple):
    """A case with the project's verdict and QEMU's."""

    case: Case
    predicted: Result
    real: Result

    @property
    def agrees(self) -> bool:
        """Outcome, side, and mismatch line or error text are the same."""
        ours, theirs = self.predicted, self.real
        if (ours.outcome, ours.side) != (theirs.outcome, theirs.side):
            return False
        if ours.outcome == ERROR:
            return same_text(ours.line, theirs.line)
        if ours.outcome == FAIL and not ours.line:
            return len(self.case.source.config) != len(self.case.destination.config)
        return ours.line == theirs.line if ours.outcome in (PASS, FAIL) else True


# Where the guest sees the device, which the project is not told: 0000:00:00:01.0
_ADDRESS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}(:[0-9a-f]{2})*\.[0-7] (?=Attempt to add)")


def same_text(ours: str, theirs: str) -> bool:
    """Whether an error is QEMU's, but for an address and for what the C library adds."""
    theirs = _ADDRESS.sub("", theirs)
    return theirs == ours or theirs.startswith(f"{ours}: ")


def judge(engine: Engine, cases: Iterable[Case]) -> list[Judged]:
    """Each of the cases, in their order, with both verdicts."""
    numbered = [
        (n, case, predict(case, engine.facts, engine.sender.facts)) for n, case in enumerate(cases)
    ]
    batched = [entry for entry in numbered if _is_safe(entry[1], entry[2])]
    alone = [entry for entry in numbered if not _is_safe(entry[1], entry[2])]
    with ThreadPoolExecutor(WORKERS) as pool:
        found = [
            *pool.map(lambda chunk: _batch(engine, [e[1] for e in chunk]), _chunks(batched)),
            *pool.map(lambda entry: [ask(engine, entry[1])], alone),
        ]
    order = [entry for chunk in _chunks(batched) for entry in chunk] + alone
    results = {e[0]: r for e, r in zip(order, (r for some in found for r in some))}
    return [Judged(case, predicted, results[n]) for n, case, predicted in numbered]


def _is_safe(case: Case, predicted: Result) -> bool:
    """Whether a case can share processes.

    With sizes that differ, what follows a section counts. And QEMU takes only one of Intel's
    graphics a machine: it makes a file of firmware configuration for each, of one name.
    """
    equal = len(case.source.config) == len(case.destination.config)
    single = any(
        is_intel_vga(device.config) and not device.mdev
        for device in (case.source, case.destination)
    )
    # The section of a root port is none of those that are loaded there.
    alike = case.source.atomics == case.destination.atomics
    return equal and alike and not single and predicted.outcome in (PASS, FAIL)


def _chunks(entries: Sequence[Any]) -> Iterator[list[Any]]:
    """Cases that can share a machine, as many as it has room for."""
    groups: dict[tuple[object, ...], list[Any]] = {}
    for entry in entries:
        case = entry[1]
        groups.setdefault((case.machine, case.placement, case.globals), []).append(entry)
    for group in groups.values():
        yield from (group[at : at + MAX_DEVICES] for at in range(0, len(group), MAX_DEVICES))


def _batch(engine: Engine, cases: Sequence[Case]) -> list[Result]:
    try:
        return batch(engine, cases)
    except (LoaderError, ProcessError, OSError, ValueError):
        return [ask(engine, case) for case in cases]


def batch(engine: Engine, cases: Sequence[Case]) -> list[Result]:
    """The results of cases that share a machine. Raises if one of them breaks it."""
    with workbench(engine.library) as bench:
        sides: Mapping[str, Any] = {
            "source": [case.source for case in cases],
            "destination": [case.destination for case in cases],
        }
        options = {
            side: devices_options(
                bench,
                side,
                [case.setting(device) for case, device in zip(cases, devices)],
                [device.state for device in devices],
            )
            for side, devices in sides.items()
        }
        paths = [topology(case.placement, number) for number, case in enumerate(cases)]
        header, sections = send(bench, engine.sender.executable, options["source"], "source", paths)
        with Loader(
            bench,
            engine.receiver.executable,
            options["destination"],
            "destination",
            header,
            engine.image,
        ) as loader:
            return [loader.load(path, section) for path, section in zip(paths, sections)]


def ask(engine: Engine, case: Case) -> Result:
    """The result of one case, by a trial of its own; ``unavailable`` where there is none."""
    try:
        return trial(
            case.source.state,
            case.destination.state,
            case.setting(case.destination),
            engine.receiver.executable,
            deadline=time.monotonic() + _PATIENCE,
            source_setting=case.setting(case.source),
            sender=engine.sender.executable,
            library=engine.library,
            limits=_LIMITS,
            control=False,
        )
    except TrialUnavailable as error:
        return Result("unavailable", line=str(error))
