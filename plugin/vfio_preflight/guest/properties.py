"""QEMU properties that a guest's XML sets on a device, each with where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lxml import etree

from .xml import QEMU_NS

_OVERRIDES = f"{{{QEMU_NS}}}override/{{{QEMU_NS}}}device"
_OVERRIDDEN = f"{{{QEMU_NS}}}frontend/{{{QEMU_NS}}}property"
_BOOLEANS = {"true": "on", "false": "off"}
_SWITCHES = {"on": "on", "off": "off"}
_NUMBERS = {"on": "1", "off": "0"}

# What libvirt makes of its own XML: path, attribute, QEMU property, values (None: as written).
# Common to every hostdev:
_COMMON: tuple[tuple[str, str, str, Mapping[str, str] | None], ...] = (
    (".", "display", "display", _SWITCHES),
    (".", "ramfb", "ramfb", {"on": "on"}),
    ("address", "multifunction", "multifunction", _SWITCHES),
    ("acpi", "index", "acpi-index", None),
)
# Only for hostdev type='pci' and interfaces; libvirt ignores the <rom> of an mdev
# (qemuBuildPCIHostdevDevProps, qemuBuildHostdevMediatedDevProps).
_PCI_ONLY: tuple[tuple[str, str, str, Mapping[str, str] | None], ...] = (
    ("rom", "bar", "rombar", _NUMBERS),
    ("rom", "file", "romfile", None),
    ("rom", "enabled", "romfile", {"no": ""}),
    ("driver", "iommufd", "iommufd", {"yes": "iommufd0"}),
    ("teaming[@type='transient']", "persistent", "failover_pair_id", None),
)


class Property(NamedTuple):
    """A property's value in the notation of QEMU's k=v form, and its origin in words."""

    value: str
    origin: str


def libvirt_properties(device: etree._Element, mdev: bool) -> dict[str, Property]:
    """Return the properties libvirt derives from a device's own XML and hands to QEMU."""
    properties = {}
    for path, attribute, name, values in _COMMON if mdev else _COMMON + _PCI_ONLY:
        element = device if path == "." else device.find(path)
        written = element.get(attribute) if element is not None else None
        if element is None or written is None:
            continue
        value = written if values is None else values.get(written)
        if value is not None:
            origin = f"libvirt: <{element.tag} {attribute}='{written}'>"
            properties[name] = Property(value, origin)
    return properties


def read_overrides(root: etree._Element) -> dict[str, dict[str, str | None]]:
    """Return, by alias, what ``<qemu:override>`` sets on the devices libvirt makes.

    None stands for ``type='remove'``. Later entries win, as in libvirt's
    ``qemuBuildDeviceCommandlineHandleOverrides``.
    """
    overrides: dict[str, dict[str, str | None]] = {}
    for device in root.iterfind(_OVERRIDES):
        properties = overrides.setdefault(device.get("alias", ""), {})
        for element in device.iterfind(_OVERRIDDEN):
            properties[element.get("name", "")] = _override_value(element)
    return overrides


def apply_overrides(
    properties: Mapping[str, Property], overrides: Mapping[str, str | None]
) -> dict[str, Property]:
    """Return the properties with one device's overrides on top."""
    merged = dict(properties)
    for name, value in overrides.items():
        merged.pop(name, None)
        if value is not None:
            merged[name] = Property(value, "qemu:override")
    return merged


def _override_value(element: etree._Element) -> str | None:
    kind, value = element.get("type"), element.get("value", "")
    if kind == "remove":
        return None
    return _BOOLEANS.get(value, value) if kind == "bool" else value
