"""A device's ROM file, whose block of memory two releases of QEMU call by different names.

The destination takes no block that it has not by that name. A ROM of the device's own makes none.

Source: QEMU, ``pci_add_option_rom()`` (hw/pci/pci.c), ``parse_ramblock()`` (migration/ram.c).
"""

from __future__ import annotations

from ...qemu.model.properties import PropertyError
from ...qemu.model.settings import rombar
from ...qemu.model.values import Environment
from .. import codes
from ..context import Context
from ..facts import DeviceFacts
from ..findings import Finding

REMEDY = (
    "choose a host whose QEMU is of the source's release; or start the guest anew without the file"
    " (<rom bar='off'/>), if it boots without it"
)
_BY_CPR = "vfio-cpr-pci.rom"


def check_rom_file(context: Context, _facts: DeviceFacts) -> tuple[Finding, ...]:
    """That the guest cannot go to the destination's QEMU with the file."""
    if not context.sender_version or context.emulator is None or context.is_unplugged_to_migrate:
        return ()
    driver = context.device.driver
    sent, here = (_block(each, driver) for each in (context.sender, context.environment))
    if sent == here or not sent or not here:
        return ()
    return (
        Finding(
            codes.ROM_FILE_NAMED,
            f"its ROM file's memory is {sent} to QEMU {context.sender_version} and {here} to QEMU"
            f' {context.emulator.version} ("Unknown ramblock")',
            REMEDY,
        ),
    )


def _block(environment: Environment, driver: str) -> str:
    """What QEMU calls the block; empty where there is none."""
    try:
        shown = rombar(environment.properties)
    except PropertyError:
        return ""  # of which another finding tells
    if not shown or not environment.properties.get("romfile"):
        return ""
    return _BY_CPR if environment.behaviour.rom_is_named_by_cpr else f"{driver}.rom"
