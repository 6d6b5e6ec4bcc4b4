"""Each row of ``judge.effects`` that says that QEMU refuses a guest, tried on real builds.

Both sides are one build, and one of them has the property at another value.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from vfio_preflight.judge.effects import EFFECTS, Effect
from vfio_preflight.judge.verdicts import FAIL, PASS

from .engine import Engine
from .rawqmp import Qmp
from .twosides import PASS as ACCEPTED
from .twosides import REFUSED, migrate

MACHINE = "pc-q35-10.0"
PORT = ("pcie-root-port,id=rp0,chassis=1", "{},bus=rp0")
# For each type that a row names: the devices that make a guest with it, and -global's type.
DEVICES = {
    "pcie-port": (PORT[:1], "pcie-root-port"),
    "pcie-root-port": (PORT[:1], "pcie-root-port"),
    "pcie-root-port-base": (PORT[:1], "pcie-root-port"),
    "pci-bridge": (("pci-bridge,chassis_nr=2",), "pci-bridge"),
    "pci-vga": (("VGA",), "VGA"),
    "virtio-gpu-device": (("virtio-gpu-pci",), "virtio-gpu-device"),
}
ON_PORT = ("igb", "e1000e", "virtio-balloon-pci", "virtio-rng-pci")
# The other value; that of a boolean is the opposite of the default.
VALUES = {
    ("x-speed", "pcie-root-port"): "2_5",
    ("x-width", "pcie-root-port"): "1",
    ("vgamem_mb", "cirrus-vga"): "8",
    ("vgamem_mb", "pci-vga"): "32",
    ("vectors", "virtio-balloon-pci"): "0",
    ("vectors", "virtio-rng-pci"): "0",
    ("x-scanout-vmstate-version", "virtio-gpu-device"): "1",
}


def rows() -> list[tuple[Effect, str]]:
    """Every type of every row that was seen."""
    seen = [effect for effect in EFFECTS if effect.verdict == FAIL]
    return [(effect, name) for effect in seen for name in effect.types]


def guest(name: str) -> tuple[list[str], str]:
    """The arguments of a guest with such a device, and the type to set its property on."""
    if name in ON_PORT:
        devices: tuple[str, ...] = tuple(each.format(name) for each in PORT)
        qom_type = name
    else:
        devices, qom_type = DEVICES.get(name, ((name,), name))
    made = ["-machine", f"{MACHINE},accel=tcg", "-m", "32", "-vga", "none"]
    return [*made, *(word for each in devices for word in ("-device", each))], qom_type


def other_value(emulator: str, effect: Effect, name: str, qom_type: str) -> str:
    """A value that is not the default; empty where the build lacks the property."""
    asked = Qmp(emulator, "-machine", "none")
    try:
        listed = asked.ask("device-list-properties", typename=qom_type) or []
    finally:
        asked.end()
    defaults = {each["name"]: each.get("default-value") for each in listed}
    if effect.property not in defaults:
        return ""
    value = VALUES.get((effect.property, name))
    return value or ("off" if defaults[effect.property] is True else "on")


@pytest.mark.parametrize(
    ("effect", "name"), rows(), ids=[f"{name}.{effect.property}" for effect, name in rows()]
)
def test_refused(engine: Engine, effect: Effect, name: str, tmp_path: Path) -> None:
    emulator = engine.receiver.executable.path
    plain, qom_type = guest(name)
    value = other_value(emulator, effect, name, qom_type)
    if not value:
        # Releases drop what only machine types needed that they have no more.
        assert effect.property in GONE
        return
    changed = [*plain, "-global", f"{qom_type}.{effect.property}={value}"]
    sides = {"source": changed, "destination": plain}
    quote = effect.text.split('"')[1].split("...")[0]
    for where in ("source", "destination"):
        sides = {"source": plain, "destination": plain, where: changed}
        there = value if where == "destination" else {"on": "off", "off": "on"}.get(value, "")
        both = ((emulator, sides["source"]), (emulator, sides["destination"]))
        outcome, errors = migrate(*both, tmp_path / "stream")
        if effect.there in ("", there):
            assert (outcome, quote in errors) == (REFUSED, True), errors
        else:
            assert outcome == ACCEPTED, errors


# Of QEMU 11.1: what the machine types before 5.2 had.
GONE = {
    *("x-migrate-msix", "disable-acs", "global-vmstate", "x-old-msi-offsets"),
    *("x-old-pci-configuration", "x-disable-pcie"),
}


def test_same_guest_is_accepted(engine: Engine, tmp_path: Path) -> None:
    """Without a difference all of these pass: what is refused above is so for the property."""
    emulator = engine.receiver.executable.path
    for name in {name for _, name in rows()}:
        plain, _ = guest(name)
        assert migrate((emulator, plain), (emulator, plain), tmp_path / "stream")[0] == ACCEPTED


def test_every_row_has_a_source_and_a_date() -> None:
    for effect in EFFECTS:
        assert effect.source.endswith("-28") and effect.text
        assert effect.verdict != FAIL or '"' in effect.text
    assert {effect.verdict for effect in EFFECTS} >= {FAIL, PASS}
