"""A migration stream of a guest that never ran, changed before it is loaded.

Source: QEMU, ``qemu_savevm_state_*`` (migration/savevm.c) has the form of a section;
``vfio_save_state()`` (hw/vfio/migration.c) that of a VFIO device's.
"""

from __future__ import annotations

import re
import struct

from ..emulator.client import ProcessError

# VFIO_MIG_FLAG_DEV_CONFIG_STATE and the version of vmstate_pci_device precede configuration space.
# QEMUFile is big-endian: put_be64() of the flag, put_be32() of the version.
_CONFIG_FOLLOWS = struct.pack(">QI", 0xFFFFFFFFEF100002, 2)
# QEMU_VM_SECTION_FULL, the section's number, its name, instance and version. The state, and
# QEMU_VM_SECTION_FOOTER with the number.
_PROCESSOR = re.compile(rb"\x04(.{4})\x03cpu.{8}.*?\x7e\1", re.DOTALL)


def with_config(stream: bytes, size: int, config: bytes) -> bytes:
    """The stream with ``config`` in place of the ``size`` bytes of configuration space in it.

    The guest never ran, so its memory has nothing that could be taken for the tag. Raises
    :class:`ProcessError` where there is no configuration space.
    """
    head, tag, rest = stream.partition(_CONFIG_FOLLOWS)
    if not tag:
        raise ProcessError("sends no configuration space")
    return head + tag + config + rest[size:]


def without_processors(stream: bytes) -> bytes:
    """A stream without its processors, which QEMU does not mind.

    Releases change the list of registers that an emulated Arm processor has in the state, and
    ``cpu_post_load()`` (target/arm/machine.c) takes no other list than its own: 10.0.2 and 11.1.3
    take no emulated Arm guest of each other's, whatever its processor.
    """
    return _PROCESSOR.sub(b"", stream)
