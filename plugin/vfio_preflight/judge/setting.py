"""What surrounds a guest's device, for a trial or for the case of a bug report."""

from __future__ import annotations

from ..guest.commandline import from_option
from ..qemu.model.properties import JSON_TYPES
from ..qemu.trial.setting import Setting
from .context import Context


def setting_of(context: Context) -> Setting:
    """The device's environment, passed to QEMU as the guest passes it: ``-global`` separately."""
    guest, device = context.guest, context.device
    # An alias is resolved as QEMU would do it on the destination.
    known = context.emulator.resolve(guest.machine) if context.emulator else None
    flags = tuple((entry.driver, entry.property, entry.value) for entry in guest.globals)
    given = device.properties
    # libvirt gives its devices as JSON. Before 8.0 it did not, and -set works for options alone.
    # -set works on QemuOpts only, so a device with one such property is passed as k=v.
    in_json = all(value.form in JSON_TYPES for value in given.values())
    typed = {name: from_option(value.value, value.form) for name, value in given.items()}
    environment = context.environment._replace(
        properties={name: value.value for name, value in given.items()}
    )
    machine = known.name if known else guest.machine
    return Setting(machine, device.driver, environment, flags, typed if in_json else None)
