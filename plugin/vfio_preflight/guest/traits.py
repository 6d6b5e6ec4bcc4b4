"""What determines the bytes that a device presents: its model, type, driver and firmware; and what
a vendor's rule says of devices by these traits.

Two devices with equal traits are taken to present equal bytes; the catalogue and every inference
rest on that. A record keeps the traits of each device that it has a state of, under the names in
:data:`NAMES`. ``host.traits`` reads them from sysfs.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..osutil.light import NamedTuple

NAMES = ("vendor", "device", "subsystem", "type", "driver", "driver-version", "firmware")

# When a vendor's rule applies: a trait that is known on both sides differs; its part before the
# first dot does; to each device that the rule concerns, as a reminder of what no trait says.
DIFFERS = "differs"
BRANCH_DIFFERS = "branch-differs"
ALWAYS = "always"
CONDITIONS = (DIFFERS, BRANCH_DIFFERS, ALWAYS)


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

    def named(self, name: str) -> str:
        """The trait that a record calls ``name``; empty where not known, or for no name at all."""
        return self[NAMES.index(name)] if name else ""

    @property
    def determined(self) -> bool:
        """Whether enough is known for another device with the same traits to present the same."""
        # The subsystem and the firmware may be empty: many drivers do not report them.
        return bool(self.vendor and self.device and self.driver and self.driver_version)


def from_facts(facts: Mapping[str, str]) -> Traits:
    """The traits among a record's attributes."""
    return Traits(*(facts.get(name, "") for name in NAMES))


class VendorRule(NamedTuple):
    """What a vendor's driver is known to check by itself, beyond the configuration space.

    ``drivers`` as by :func:`module_of`; ``vendor`` and ``devices`` are four hexadecimal digits
    each, no ``devices`` means all of them. ``condition`` is one of :data:`CONDITIONS`, ``trait``
    one of :data:`NAMES`, or empty for a reminder. ``text`` says what is likely, by ``source`` as of
    ``date``. With ``undecided`` the verdict is unknown where the rule applies.
    """

    drivers: tuple[str, ...]
    vendor: str
    devices: tuple[str, ...]
    trait: str
    condition: str
    text: str
    remedy: str
    source: str
    date: str
    undecided: bool = False

    def concerns(self, traits: Traits) -> bool:
        """Whether the rule is about such a device."""
        return (
            traits.vendor == self.vendor
            and (not self.devices or traits.device in self.devices)
            and module_of(traits.driver) in self.drivers
        )


def module_of(driver: str) -> str:
    """The name by which a driver is known here: xe-vfio-pci and its module xe_vfio_pci are one."""
    # A driver is named as its source likes, its module never with a hyphen (KBUILD_MODNAME).
    return driver.replace("-", "_")
