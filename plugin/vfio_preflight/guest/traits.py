"""What determines the bytes that a device presents: its model, type, driver and firmware.

Two devices with equal traits are taken to present equal bytes; the catalogue and every inference
rest on that. A record keeps the traits of each device that it has a state of, under the names in
:data:`NAMES`. ``host.traits`` reads them from sysfs.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..osutil.light import NamedTuple

NAMES = ("vendor", "device", "subsystem", "type", "driver", "driver-version", "firmware")


class Traits(NamedTuple):
    """What is known about a device; empty where the host does not report it.

    ``vendor`` and ``device`` are four hexadecimal digits, ``subsystem`` two such separated by a
    colon: of the device itself, for a mediated device those of its parent. ``type`` is that of a
    mediated device or vGPU (``nvidia-63``). ``driver_version`` is its module's version, or else
    ``srcversion:…``, or for a driver built into the kernel ``linux:…``.
    """

    vendor: str = ""
    device: str = ""
    subsystem: str = ""
    type: str = ""
    driver: str = ""
    driver_version: str = ""
    firmware: str = ""

    def facts(self) -> dict[str, str]:
        """The known traits, by the names that a record uses."""
        return {name: value for name, value in zip(NAMES, self) if value}

    @property
    def determined(self) -> bool:
        """Whether enough is known for another device with the same traits to present the same."""
        # The subsystem and the firmware may be empty: many drivers do not report them.
        return bool(self.vendor and self.device and self.driver and self.driver_version)


def from_facts(facts: Mapping[str, str]) -> Traits:
    """The traits among a record's attributes."""
    return Traits(*(facts.get(name, "") for name in NAMES))
