"""Made-up builds of QEMU: a few device types, and what machine types set of them."""

from __future__ import annotations

from collections.abc import Mapping

from vfio_preflight.judge.facts import Builds
from vfio_preflight.qemu.emulator.sent import describe
from vfio_preflight.qemu.emulator.types import TypeFacts

MACHINE = "pc-q35-9.0"
# By type: each property's type and default.
Properties = Mapping[str, Mapping[str, "tuple[str, str | bool | int | None]"]]
PARENTS = {
    "pcie-root-port": "pcie-port",
    "pcie-port": "pci-device",
    "virtio-net-pci": "virtio-pci",
    "virtio-pci": "pci-device",
    "virtio-net-device": "virtio-device",
    "virtio-device": "device",
    "vfio-pci": "pci-device",
    "pci-device": "device",
    "device": "",
}
PROPERTIES: Properties = {
    "pcie-root-port": {"x-pcie-ext-tag": ("bool", True), "x-speed": ("PCIELinkSpeed", "16")},
    "virtio-net-pci": {
        "x-pcie-ext-tag": ("bool", True),
        "host_uso": ("bool", True),
        "vectors": ("uint32", 4294967295),
        "mac": ("str", None),
        "romsize": ("uint32", 4294967295),
    },
    "virtio-net-device": {"host_uso": ("bool", True)},
    "vfio-pci": {
        "x-igd-opregion": ("bool", False),
        "x-no-mmap": ("bool", False),
        "host": ("str", None),
    },
}
ROMS = {"efi-virtio.rom": 250_000}


def make_types(
    *entries: tuple[str, str, str],
    properties: Properties = PROPERTIES,
    version: str = "10.0.2",
    machine: str = MACHINE,
    roms: Mapping[str, int] = ROMS,
) -> TypeFacts:
    """A build whose ``machine`` has these compat entries."""
    listed: list[tuple[str, str, str | bool | int | None]] = []
    sets, types = [], {}
    for number, (name, own) in enumerate(properties.items()):
        start = len(listed)
        listed += [(key, *value) for key, value in own.items()]
        sets.append(" ".join(map(str, range(start, len(listed)))))
        types[name] = number
    numbers = " ".join(map(str, range(len(entries))))
    return TypeFacts(
        version,
        "",
        True,
        [list(each) for each in listed],
        sets,
        types,
        PARENTS,
        [list(each) for each in entries],
        {machine: numbers},
        [],
        dict(roms),
    )


def changed(qom_type: str, **values: str | bool | int | None) -> Properties:
    """The usual properties with other defaults on one type; None takes the property away."""
    own = dict(PROPERTIES[qom_type])
    for name, value in values.items():
        key = name if name in own else name.replace("_", "-")
        if value is None:
            del own[key]
        else:
            own[key] = (own[key][0], value)
    return {**PROPERTIES, qom_type: own}


def make_builds(
    there: TypeFacts,
    source: TypeFacts | None = None,
    given: Mapping[str, tuple[str, ...]] | None = None,
) -> Builds:
    """Two builds for a guest with one device of each type."""
    source = source or make_types()
    named = {"pcie-root-port": (), "virtio-net-pci": ("mac",), "vfio-pci": ("host",)}
    uses = {**named, **(given or {})}
    return Builds(describe(source, MACHINE, uses, uses), there, "recorded on a")
