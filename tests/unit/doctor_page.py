"""Writes docs/DOCTOR.md: every fault that ``doctor`` knows. ``make findings`` runs it.

PYTHONPATH=plugin:tests python -m unit.doctor_page > docs/DOCTOR.md
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from vfio_preflight.cli.diagnosis.checks import CHECKS, SELF_TEST
from vfio_preflight.cli.diagnosis.faults import FAULTS
from vfio_preflight.cli.diagnosis.finding import Fault

PAGE = "docs/DOCTOR.md"
HEAD = """\
# doctor

Made by `make findings`, of the table that the command itself goes by; a unit test holds it to
that.

`vfio-preflight doctor`, as root, looks at what this host needs to judge guests. It prints
`healthy`, or a line for each problem and below it the command that mends it, which can be copied
as it stands. One mended fault can bring up another: `watch` reads its configuration as it starts,
so that it has to be restarted when that was mended. Run `doctor` until it says `healthy`.

It changes nothing, and needs neither libvirt-python nor a libvirt that answers. It calls this
hook for made-up guests, asks emulators as the hook does, and keeps in
`/run/vfio-preflight/daemons` which of libvirt's processes is known to have found a hook. No other
hook is called, unless `--self-test` asks for it.

A subject that rests on something that is broken is left out until that is mended. A package whose
modules are missing or broken is told of whichever module it is, `doctor`'s own included: by the
file `/usr/bin/vfio-preflight`, which needs none of them. So does every other command, in one
line. Where that file itself is not executable, `python3 -I /usr/bin/vfio-preflight doctor` is.

| exit status | |
|---|---|
| 0 | healthy |
| 1 | a problem was found |
| 2 | usage or input error |
| 3 | something could not be looked at (`not seen`), and no problem was found |

`--format json` is one object: `schema` (1), `healthy`, `problems` (each `code`, `text`,
`command`), `unseen` (each `subject`, `why`), `seconds`, and `facts`, what was seen on the way:
`package`, `daemons`, `hooks` (in the order in which libvirt runs them, with the project they are
of, where that is known), `latency` of this hook in seconds for each operation, `libvirt`
(`managed-save`: what becomes of one if a hook fails at its restore), `emulators`, `devices` with
the evidence that each has now, `kernel` (ways to a device that a guest has), `watch`, `guests`
with a VFIO device, `history`.

`--self-test` calls the hook as libvirt does (arguments, XML on standard input, environment,
directory) for two made-up guests with a device that no host has: of one the state is the same on
both sides, of the other a byte differs. Status and time of each are printed, and held against the
host's own policy. The guests are judged in a mount namespace with state files, history and
`/run/vfio-preflight` of their own: nothing stays of them but a line each in the log. Every other
hook is called at `migrate begin` and `restore begin` for a guest without devices, as a dry run
(`check --to`) has libvirt call them.
"""
LOOKS = """\
## What is looked at

In this order:

"""
WORDS = """\
What stands for a whole command, or an argument of it:

| | |
|---|---|
| `{reinstall}`, `{repair}` | how the package was put in place, from its manifest: an installation's is `env PYTHONPATH=DIR /usr/bin/python3 -B -m vfio_preflight install` with the directory that it was made from, a package's `apt-get install -y --reinstall vfio-preflight`, the same of `./vfio-preflight_VERSION_*.deb` where apt knows of no archive that has the package, or dnf's; after `rm -rf --` of files that are damaged, which no installation overwrites, or of what a package manager does not go over |
| `{install}` | `apt-get install -y --reinstall PACKAGE`, or that of dnf or zypper |
| `{reload}` | `systemctl reload UNIT`; without systemd `kill -HUP PID`, and a file in `/run/vfio-preflight` that says so |
| `{start}`, `{restart}` | `systemctl enable --now` or `restart` of the unit, after a `daemon-reload`; without systemd, the command itself in the background |
| `{edit}` | what `sed` does to which lines of the configuration, or the `sed` itself |
| `{aside}` | a name beside it that nothing has yet |
"""
TABLE = """\
## Faults

`{…}` stands for what is found on the host. Faults marked * are found by `--self-test` alone.

| fault | message | command |
|---|---|---|"""
TAIL = """
## What it cannot know

- Whether libvirt was reloaded by other means than its systemd unit or the command that is
  printed: where the first hook of a host came after its daemon, and nothing says that it has
  looked since, that is `reload-pending`.
- Whether another hook that runs before this one prints, unless it is called. Without
  `--self-test` that shows in the refusal of the first migration alone.
- Why a device of a running guest cannot be recorded: `record`, the command of `record-missing`,
  says so if it cannot.
- What another hook does to real guests: it is called for one that is none of its own.
- A guest that a user's own libvirt (`qemu:///session`) runs.
"""


def page() -> str:
    """The whole page."""
    return "\n".join(
        [HEAD, LOOKS + _looks() + "\n", TABLE, *_rows(), "\n" + WORDS, TAIL.strip("\n") + "\n"]
    )


def _looks() -> str:
    return f"{', '.join(check.subject for check in CHECKS)}; with `--self-test` also: " + (
        f"{', '.join(check.subject for check in SELF_TEST)}."
    )


def _rows() -> Iterator[str]:
    for fault in FAULTS:
        mark = " *" if fault.self_test else ""
        yield f"| `{fault.code}`{mark} | {_cell(fault.message)} | `{_cell(fault.command)}` |"


def _cell(text: str) -> str:
    """A template as the cell of a table."""
    return text.replace("|", r"\|")


def values_of(fault: Fault) -> set[str]:
    """The names of the values of a fault."""
    return set(re.findall(r"\{(\w+)\}", f"{fault.message} {fault.command}"))


if __name__ == "__main__":
    sys.stdout.write(page())
