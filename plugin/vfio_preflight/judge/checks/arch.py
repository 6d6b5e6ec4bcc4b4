"""The guest's architecture: does its emulator emulate it, and was the check tried on its boards?

libvirt refuses a guest whose emulator has another target (``virQEMUCapsIsArchSupported()``,
src/qemu/qemu_capabilities.c; seen with 11.3.0). What the boards do is in their table,
``qemu.model.boards``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...guest.domain import Guest
from ...pci.state import Missing
from ...qemu.emulator.machines import EmulatorFacts
from ...qemu.model.boards import X86, Board, board_of
from .. import codes
from ..findings import Finding

# libvirt's architecture: the targets of QEMU's (SysEmuTarget) that it lets emulate it; any other
# is that of the same name.
_TARGETS = {
    "i686": ("i386", "x86_64"),
    "armv7l": ("arm", "aarch64"),
    "armv6l": ("arm",),
    "ppc64le": ("ppc64",),
    "or32": ("or1k",),
}
_REMEDY = "correct the guest's <emulator>, or the arch of its <type>"


def check_arch(guest: Guest, emulator: EmulatorFacts | Missing) -> tuple[Finding, ...]:
    """Findings on the architecture; none for XML that names none, which libvirt would fill in."""
    if not guest.arch:
        return ()
    return (*_mismatch(guest, emulator), *_board(guest))


def _mismatch(guest: Guest, emulator: EmulatorFacts | Missing) -> Iterator[Finding]:
    fitting = _TARGETS.get(guest.arch, (guest.arch,))
    what = f"the guest's architecture is {guest.arch[:40]!a}"
    if not isinstance(emulator, Missing):
        if emulator.target and emulator.target not in fitting:
            yield Finding(
                codes.ARCH_MISMATCH,
                f"{what}, and {emulator.path} emulates {emulator.target}: libvirt refuses it,"
                " \"Emulator '...' does not support arch '...'\"",
                _REMEDY,
            )
        return
    # An emulator that could not be asked is undecided already; by its name it may be wrong, too.
    named = re.search(r"qemu-system-([a-z0-9_]+)$", guest.emulator)
    if named and named[1] not in fitting:
        text = f"{what}, and the emulator is one of {named[1]} by its name"
        yield Finding(codes.ARCH_UNDECIDED, text, _REMEDY)


def _board(guest: Guest) -> Iterator[Finding]:
    board = board_of(guest.machine, guest.arch)
    if not _is_known(guest, board):
        yield Finding(
            codes.ARCH_UNDECIDED,
            f"the check was not tried on {guest.arch[:40]!a} with machine type {guest.machine}:"
            " where the guest sees its devices, and what QEMU does with them there, is not known"
            " for certain",
            "have the emulator itself tried (--trial, or trial in [hook])",
        )


def _is_known(guest: Guest, board: Board | None) -> bool:
    # A board of an unknown name is a distributor's PC: its root bus is what the XML says it is.
    if board is None:
        return guest.arch in X86.architectures
    # Devices that are never sent are never compared (checks.blockers).
    known = board.tried or bool(board.refusal)
    return known and guest.arch in board.target.architectures
