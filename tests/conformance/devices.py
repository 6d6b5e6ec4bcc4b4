"""``python -m conformance.devices``: every emulated device, migrated between two builds.

Ends with status 0 if the twin said the same of each. Writes the page of what became of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path

from .emulated.page import page, said
from .emulated.survey import Build, Case, Row, build, survey

# Boards, and what runs on them by itself: firmware of aarch64 is the operator's.
MACHINES = {"x86_64": ("pc-q35-9.0", "pc-i440fx-10.0"), "aarch64": ("virt-9.0", "virt-10.0")}
WITH_FIRMWARE = ("x86_64",)


def main() -> int:
    options = _options()
    builds = [build(path) for path in options.emulator]
    started = time.monotonic()
    machines, firmware = MACHINES[options.arch], options.arch in WITH_FIRMWARE
    rows = survey(cases_of(builds, machines, firmware=firmware))
    wrong = [row for row in rows if not row.agrees]
    print(
        f"{len(rows)} migrations in {time.monotonic() - started:.0f} s, disagreements: {len(wrong)}"
    )
    for row in wrong:
        print(described(row))
    if options.page:
        Path(options.page).write_text(page(rows))
    return int(bool(wrong))


def cases_of(
    builds: Sequence[Build], machines: Sequence[str], *, firmware: bool, types: Sequence[str] = ()
) -> list[Case]:
    """Every device type of ``builds``, or ``types``, on each machine and both ways."""
    kinds = {name: bus for one in builds for name, bus in one.types.items()}
    modes = (False, True) if firmware else (False,)
    return [
        Case(name, kinds[name], machine, source, destination, mode)
        for name, machine, (source, destination), mode in product(
            types or sorted(kinds), machines, permutations(builds, 2), modes
        )
    ]


def described(row: Row) -> str:
    """A row in a few lines, with what starts the guest."""
    case, twin = row.case, row.twin
    lines = [f"{case.type} on {case.machine}, {case.way}: {row.real.outcome} {said(row.real)}"]
    if twin is not None and not row.agrees:
        lines.append(f"  the twin: {twin.outcome} at {twin.side or 'neither'}: {twin.line}")
    return "\n".join([*lines, f"  {' '.join(case.arguments)}"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m conformance.devices", description=__doc__)
    parser.add_argument("--emulator", action="append", metavar="PATH", required=True, help="twice")
    parser.add_argument("--arch", choices=MACHINES, default="x86_64", help="what they emulate")
    parser.add_argument("--page", metavar="FILE", help="write what became of them")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
