"""The guest's architecture: does its emulator emulate it, and was the check tried on its boards?

libvirt refuses a guest whose emulator has another target (``virQEMUCapsIsArchSupported()``,
src/qemu/qemu_capabilities.c; seen with 11.3.0). What the boards do was seen with QEMU 10.0.2: x86,
``virt`` of Arm and of LoongArch as the model says; pSeries and s390x refuse to send VFIO devices.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...guest.domain import Guest
from ...pci.state import Missing
from ...qemu.emulator.machines import EmulatorFacts
from ...qemu.model.boards import board_of
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
# On which the model was held against QEMU.
_TRIED = ("x86_64", "i686", "aarch64", "loongarch64")
# By board: what QEMU says when it is to send a VFIO PCI device, seen with the release.
_SEEN = "10.0.2"
_REFUSED = {
    "s390-ccw-virtio": "State blocked by non-migratable device 'zpci'",
    "pseries": "Migration is currently not supported with vIOMMU enabled",
}
_REMEDY = "correct the guest's <emulator>, or the arch of its <type>"


def check_arch(
    guest: Guest, emulator: EmulatorFacts | Missing, saved: bool = False
) -> tuple[Finding, ...]:
    """Findings on the architecture; none for XML that names none, which libvirt would fill in."""
    if not guest.arch:
        return ()
    return (*_mismatch(guest, emulator), *_board(guest, saved))


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


def _board(guest: Guest, saved: bool) -> Iterator[Finding]:
    board = board_of(guest.machine)
    quote = _REFUSED.get(board.name) if board else None
    if quote is not None:
        if guest.devices and not saved:
            yield Finding(
                codes.SOURCE_UNDECIDED,
                f"the guest's machine is a {guest.machine}, from which QEMU {_SEEN} refuses to send"
                f' VFIO PCI devices, "{quote}"; other releases were not tried',
                "detach the VFIO devices before migrating",
            )
    elif guest.arch not in _TRIED or (board is None and guest.arch not in ("x86_64", "i686")):
        yield Finding(
            codes.ARCH_UNDECIDED,
            f"the check was not tried on {guest.arch[:40]!a} with machine type {guest.machine}:"
            " where the guest sees its devices, and what QEMU does with them there, is not known"
            " for certain",
            "have the emulator itself tried (--trial, or trial in [hook])",
        )
