"""The processors in a twin's state, where they are not the guest's: KVM's, on Arm.

Which registers an Arm processor has in the state is up to what runs it: the host's KVM tells its
own (KVM_GET_REG_LIST), QEMU's emulation has a list that releases change. 10.0.2 and 11.1.3 take no
emulated Arm guest of each other's, whatever its processor; of a guest under KVM that says nothing.
So the processors of such a guest are taken out of the state before it is loaded, which QEMU does
not mind.

Source: QEMU, ``cpu_post_load()`` (target/arm/machine.c) compares the list with its own
(``cpreg_vmstate_indexes``); ``qemu_savevm_state_*`` (migration/savevm.c) has a section's form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from . import words
from .options import pairs

TARGETS = ("aarch64", "arm")
NAMED = "processors: under KVM their registers are the host's"
_KVM = "kvm"
# QEMU_VM_SECTION_FULL, the section's number, its name, instance and version. The state, and
# QEMU_VM_SECTION_FOOTER with the number.
_SECTION = re.compile(rb"\x04(.{4})\x03cpu.{8}.*?\x7e\1", re.DOTALL)


def are_kvms(argv: Sequence[str]) -> bool:
    """Whether KVM runs a guest of these arguments, which begin behind the program."""
    return any(_KVM in _accelerators(option, value) for option, value in pairs(argv))


def without_processors(state: bytes) -> bytes:
    """A state without its processors."""
    return _SECTION.sub(b"", state)


def _accelerators(option: str, value: str) -> Iterable[str]:
    if option == "enable-kvm":
        return (_KVM,)
    if option not in ("accel", "machine", "M"):
        return ()
    try:
        options = words.read(value, "accel" if option == "accel" else "type")
    except words.ArgumentError:
        return ()
    return str(options.get("accel", "")).split(":")
