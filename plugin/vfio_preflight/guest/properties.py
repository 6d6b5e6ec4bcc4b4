"""QEMU properties that a guest's XML sets on a device, each with where it comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lxml import etree

from ..osutil.light import NamedTuple
from ..qemu.model.properties import BOOLEAN, NUMBER, STRING, TEXT
from .xml import QEMU_NS

_OVERRIDES = f"{{{QEMU_NS}}}override/{{{QEMU_NS}}}device"
_OVERRIDDEN = f"{{{QEMU_NS}}}frontend/{{{QEMU_NS}}}property"
# libvirt's bool values; QEMU's k=v form uses on and off.
_BOOLEANS = {"true": "on", "false": "off"}
# JSON's types by those of <qemu:property>; libvirt reads its numbers in base 10.
_OVERRIDE_FORMS = {"bool": BOOLEAN, "signed": NUMBER, "unsigned": NUMBER, "string": STRING}
_SWITCHES = {"on": "on", "off": "off"}
_NUMBERS = {"on": "1", "off": "0"}

# How libvirt translates its XML: path, attribute, QEMU property, values (None: as written).
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
    # libvirt creates one iommufd object, iommufd0, for all devices of a guest.
    ("driver", "iommufd", "iommufd", {"yes": "iommufd0"}),
    # QEMU unplugs the transient device of a failover pair before it migrates.
    ("teaming[@type='transient']", "persistent", "failover_pair_id", None),
)


# QAPI's visitors do not convert: a string is an error where a property needs a JSON number.
# The JSON types in which libvirt passes these properties, where they are not strings.
_LIBVIRT_FORMS = {
    "ramfb": BOOLEAN,
    "multifunction": BOOLEAN,
    "rombar": NUMBER,
    "acpi-index": NUMBER,
}


class Property(NamedTuple):
    """A property's value in the notation of QEMU's k=v form, and its origin in words.

    ``form`` is how QEMU gets it, one of ``qemu.properties``: as text, or by JSON's type. It may
    refuse in one form what it takes in another.
    """

    value: str
    origin: str
    form: str = TEXT


def uses_iommufd(root: etree._Element) -> bool:
    """Whether a ``<domain>`` has its PCI devices use iommufd (``<iommufd enabled='yes'/>``).

    Source: libvirt 12.2, formatdomain; each device can be excepted by ``<driver iommufd='no'/>``.
    """
    element = root.find("iommufd")
    return element is not None and element.get("enabled") == "yes"


def libvirt_properties(
    device: etree._Element, mdev: bool, iommufd: bool = False
) -> dict[str, Property]:
    """Return the properties libvirt derives from a device's XML and hands to QEMU.

    ``iommufd`` is the domain's, as by :func:`uses_iommufd`.
    """
    properties = {}
    # An mdev's <rom> must not count: a property that QEMU never gets would change the prediction.
    for path, attribute, name, values in _COMMON if mdev else _COMMON + _PCI_ONLY:
        element = device if path == "." else device.find(path)
        written = element.get(attribute) if element is not None else None
        if element is None or written is None:
            continue
        value = written if values is None else values.get(written)
        # A value that libvirt does not turn into a property, such as ramfb='off'.
        if value is not None:
            origin = f"libvirt: <{element.tag} {attribute}='{written}'>"
            properties[name] = Property(value, origin, _LIBVIRT_FORMS.get(name, STRING))
    # What the device says itself goes before, be it no.
    if iommufd and not mdev and device.find("driver[@iommufd]") is None:
        properties["iommufd"] = Property("iommufd0", "libvirt: the domain's <iommufd>", STRING)
    return properties


def read_overrides(root: etree._Element) -> dict[str, dict[str, Property | None]]:
    """Return, by alias, what ``<qemu:override>`` sets on the devices libvirt creates.

    None stands for ``type='remove'``. Later entries win, as in libvirt's
    ``qemuBuildDeviceCommandlineHandleOverrides``.
    """
    overrides: dict[str, dict[str, Property | None]] = {}
    for device in root.iterfind(_OVERRIDES):
        properties = overrides.setdefault(device.get("alias", ""), {})
        for element in device.iterfind(_OVERRIDDEN):
            properties[element.get("name", "")] = _override_value(element)
    return overrides


def apply_overrides(
    properties: Mapping[str, Property], overrides: Mapping[str, Property | None]
) -> dict[str, Property]:
    """Return the properties with one device's overrides on top."""
    merged = dict(properties)
    for name, value in overrides.items():
        # type='remove' removes libvirt's property, so QEMU's default applies.
        merged.pop(name, None)
        if value is not None:
            merged[name] = value
    return merged


def _override_value(element: etree._Element) -> Property | None:
    kind, value = element.get("type", ""), element.get("value", "")
    if kind == "remove":
        return None
    form = _OVERRIDE_FORMS.get(kind, STRING)
    if form == BOOLEAN:
        value = _BOOLEANS.get(value, value)
    elif form == NUMBER:
        # Bounded, as the text is an operator's; what is no number is left for QEMU to refuse.
        digits = re.fullmatch("[+-]?[0-9]{1,20}", value)
        value, form = (str(int(value)), form) if digits else (value, STRING)
    return Property(value, "qemu:override", form)
