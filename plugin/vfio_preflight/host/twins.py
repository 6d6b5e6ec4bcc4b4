"""What came of the twins of guests that may come here: kept by digest, so that a hook finds it.

An answer holds for one QEMU process of the source's, which its build goes with, one machine of a
guest's, this host's emulator, and what is installed beside that (option ROMs, firmware, modules).
Of any other of these nothing is known.
"""

from __future__ import annotations

import os
import time

from ..osutil import jsondir
from ..osutil.digest import sha256
from ..osutil.executable import ExecutableError, trusted_executable
from ..osutil.light import TYPE_CHECKING, NamedTuple
from ..qemu.twin.told import OUTCOMES, Told

if TYPE_CHECKING:
    from typing import Any

DIRECTORY = "twins"
# Answers kept; the oldest go first.
MOST = 512
_SCHEMA = 1
# Where QEMU's option ROMs, firmware and modules are installed: rename(2), by which a package is
# upgraded, changes a directory's time. One that is not there counts as such.
_DATA = (
    *("/usr/share/qemu", "/usr/share/qemu-kvm", "/usr/share/seabios", "/usr/share/ipxe"),
    *("/usr/lib/ipxe/qemu", "/usr/share/ipxe.efi", "/usr/share/OVMF", "/usr/share/edk2/ovmf"),
    *("/usr/share/edk2/aarch64", "/usr/share/AAVMF", "/usr/lib64/qemu-kvm", "/usr/lib64/qemu"),
    *("/usr/lib/x86_64-linux-gnu/qemu", "/usr/lib/aarch64-linux-gnu/qemu"),
)


class Sent(NamedTuple):
    """What the source sends: ``process`` is the guest's QEMU (``host.processes``), ``tree`` the
    digest of its machine (``guest.tree``)."""

    process: str
    machine: str
    tree: str


def is_kept(cache: str) -> bool:
    """Whether anything is known here of any guest; takes microseconds."""
    return os.path.isdir(os.path.join(cache, DIRECTORY))


def known(cache: str, sent: Sent, emulator: str) -> Told | None:
    """The answer of ``emulator``, a path on this host, on such a guest; None if none is known."""
    name = _name(sent, emulator)
    packed = jsondir.load(os.path.join(cache, DIRECTORY), name) if name else None
    if not isinstance(packed, list):
        return None
    try:
        outcome, line, device, source, destination, uncovered, when = packed
        line, device, source, destination = map(str, (line, device, source, destination))
        uncovered = tuple(map(str, uncovered))
        told = Told(str(outcome), line, device, source, destination, uncovered, str(when))
    # Damaged: a convenience that nothing depends on.
    except (TypeError, ValueError):
        return None
    return told if told.outcome in OUTCOMES else None


def keep(cache: str, sent: Sent, emulator: str, answer: Told) -> bool:
    """Keep an answer; whether that could be done."""
    name = _name(sent, emulator)
    if not name:
        return False
    return jsondir.store(os.path.join(cache, DIRECTORY), name, list(answer), MOST)


def is_data_newer(started: float) -> bool:
    """Whether something was installed beside QEMU since ``started``, in seconds since 1970."""
    return any(changed > started * 1e9 for changed in _data())


def now() -> str:
    """The time as it is kept."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _name(sent: Sent, emulator: str) -> str:
    """What an answer is kept under; empty where an emulator's file does not say what it is."""
    if not sent.process or not sent.tree:
        return ""
    try:
        executable = trusted_executable(emulator)
    except ExecutableError:
        return ""
    # A script stays the same file when what it starts is upgraded.
    if executable.script:
        return ""
    key: list[Any] = [_SCHEMA, *sent, executable.realpath, executable.identity, _data()]
    return sha256(repr(key).encode("utf-8", "replace"))


def _data() -> list[int]:
    return [_changed(path) for path in _DATA]


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
