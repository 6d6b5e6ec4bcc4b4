"""Host facts as JSON, and back: what goes over ssh, or from host to host as a file.

    {"schema": 1, "kind": "host", "host": "b", "version": "1.0", "emulators": [...], …}

The number rises when a reader of an older release would misread the facts; members may be added
within a number. Whoever reads does not trust: every text is made printable and cut, every state
goes through the codec, and what does not fit is one error that names the place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..configuration import Configuration
from ..errors import PreflightError
from ..guest.addresses import host_address, uuid
from ..guest.traits import NAMES, Traits, from_facts
from ..host.inventory import MAX_DEVICES, MDEV, PCI, HostDevice, Inventory, MdevType
from ..host.pools import Pool
from ..judge.verdicts import CHOICES, OVERRIDES
from ..osutil.text import printable
from ..pci import codec
from ..pci.state import UNKNOWN, ConfigState, Missing
from ..qemu.emulator.facts import from_json as emulator_from_json
from ..qemu.emulator.facts import to_json as emulator_to_json
from ..qemu.emulator.typesjson import compressed, decompressed
from .hostfacts import HostEmulator, HostFacts, Presented

SCHEMA = 1
KIND = "host"
# Bytes. A hundred devices with 4096 bytes of configuration space each are one megabyte.
MAX_JSON = 64 << 20
_MAX_TEXT = 400
# OverflowError: JSON as Python reads it has Infinity.
_MALFORMED = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    PreflightError,
)


class FactsError(PreflightError):
    """Text that is not the facts of a host, or those of another release's kind."""


def to_json(facts: HostFacts) -> str:
    """``facts`` as JSON text that :func:`from_json` reads back."""
    value = {
        "schema": SCHEMA,
        "kind": KIND,
        **{name: getattr(facts, name) for name in _TEXTS},
        "hook": facts.hook,
        "configuration": _configuration(facts.settings),
        "emulators": [
            {"path": path, "digest": each.digest, **_emulator(each)}
            for path, each in facts.emulators.items()
        ],
        "devices": [
            {**_device(device), **_presented(facts.presented.get(name))}
            for name, device in facts.inventory.devices.items()
        ],
        "mdev-types": [each._asdict() for each in facts.inventory.types],
        "networks": [each._asdict() for each in facts.inventory.pools],
    }
    return json.dumps(value, indent=1)


_TEXTS = ("host", "version", "time", "kernel", "arch", "libvirt", "problem")


def _configuration(settings: Configuration) -> dict[str, Any]:
    return {
        "policy": dict(settings.policy),
        "guest-override": settings.guest_override,
        "vsc-tolerant": list(settings.vsc_tolerant),
        "evidence": settings.evidence,
    }


def _emulator(emulator: HostEmulator) -> dict[str, Any]:
    if isinstance(emulator.facts, Missing):
        return {"error": emulator.facts.reason}
    types = {} if emulator.types is None else {"device-types": compressed(emulator.types)}
    return {**emulator_to_json(emulator.facts), **types}


def _device(device: HostDevice) -> dict[str, Any]:
    return {
        "name": device.name,
        "kind": device.kind,
        "class": device.class_code,
        "traits": device.traits.facts(),
        "parent": device.parent,
        "iommu-group": device.group,
        "neighbours": list(device.neighbours),
        "numa-node": device.numa,
        "vfio": device.bound,
        "holder": device.holder,
        "migratable": device.migratable,
    }


def _presented(presented: Presented | None) -> dict[str, Any]:
    if presented is None:
        return {"state": None, "reason": "not read"}
    if isinstance(presented.state, Missing):
        return {"state": None, "reason": presented.state.reason}
    return {"state": codec.to_object(presented.state), "offers": presented.offers}


# --- back ---------------------------------------------------------------------------------------


def from_json(text: str | bytes, origin: str) -> HostFacts:
    """Read :func:`to_json`'s text; ``origin`` says where it is from. Raises FactsError."""
    try:
        value = json.loads(text)
    # json descends once for each bracket: a text of nothing but brackets ends in RecursionError.
    except (ValueError, RecursionError) as error:
        raise FactsError(
            f"{origin}: not JSON, or not all of it; it takes what 'vfio-preflight host --format"
            " json' prints there"
        ) from error
    _require_schema(value, origin)
    try:
        return _facts(value)
    except _MALFORMED as error:
        what = printable(f"{type(error).__name__}: {error}", _MAX_TEXT)
        raise FactsError(f"{origin}: not the facts of a host ({what})") from error


def _require_schema(value: object, origin: str) -> None:
    schema = value.get("schema") if isinstance(value, dict) else None
    if not isinstance(value, dict) or value.get("kind", KIND) != KIND or type(schema) is not int:
        raise FactsError(f"{origin}: not what 'vfio-preflight host --format json' prints")
    if schema != SCHEMA:
        which = "there" if schema < SCHEMA else "here"
        raise FactsError(
            f"{origin}: the facts have schema {schema}, and this vfio-preflight reads {SCHEMA}:"
            f" upgrade vfio-preflight {which}"
        )


def _facts(value: Mapping[str, Any]) -> HostFacts:
    devices = [_read_device(each) for each in _list(value, "devices")]
    return HostFacts(
        **{name: _text(value.get(name, "")) for name in _TEXTS},
        hook=value["hook"] is True,
        settings=_read_configuration(value["configuration"]),
        emulators={_text(each["path"]): _read_emulator(each) for each in _list(value, "emulators")},
        inventory=Inventory(
            {device.name: device for device in devices},
            tuple(_read_type(each) for each in _list(value, "mdev-types")),
            tuple(_read_pool(each) for each in _list(value, "networks")),
        ),
        presented={
            device.name: _read_presented(each)
            for device, each in zip(devices, _list(value, "devices"))
        },
    )


def _list(value: Mapping[str, Any], name: str) -> list[Any]:
    found = value[name]
    if not isinstance(found, list) or len(found) > 2 * MAX_DEVICES:
        raise ValueError(f"{name} is not a list of up to {2 * MAX_DEVICES}")
    return found


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{ascii(value)[:40]} where a text belongs")
    return printable(value, _MAX_TEXT)


def _word(value: object) -> str:
    """A name of sysfs, which becomes part of a command that is shown."""
    text = _text(value)
    if not re.fullmatch(r"[\w.:+-]*", text, re.ASCII):
        raise ValueError(f"{ascii(text)[:60]} is no name of sysfs")
    return text


def _read_configuration(value: Mapping[str, Any]) -> Configuration:
    policy = {
        verdict: codec.one_of(choices, value["policy"][verdict], verdict)
        for verdict, choices in CHOICES.items()
    }
    return Configuration(
        policy=policy,
        guest_override=codec.one_of(OVERRIDES, value["guest-override"], "guest-override"),
        vsc_tolerant=tuple(map(_text, value["vsc-tolerant"])),
        evidence=codec.evidence(value["evidence"]),
    )


def _read_emulator(value: Mapping[str, Any]) -> HostEmulator:
    digest = _text(value.get("digest", ""))
    if "error" in value:
        return HostEmulator(Missing(UNKNOWN, _text(value["error"])), digest)
    facts = emulator_from_json(_text(value["path"]), value)
    if not all(name.isprintable() for name in facts.machines):
        raise ValueError("a machine type's name is not printable")
    entries = {entry for machine in facts.machines.values() for entry in machine.compat}
    if not all(len(entry) == 3 and all(isinstance(t, str) for t in entry) for entry in entries):
        raise ValueError("a compat entry that is not of three texts")
    return HostEmulator(
        facts._replace(
            version=_text(facts.version),
            package=_text(facts.package),
            target=_text(facts.target),
        ),
        digest,
        decompressed(value["device-types"]) if "device-types" in value else None,
    )


# How a device is named, by its kind; each function gives None for what is no such name.
_NAMED: dict[str, Callable[[str], str | None]] = {PCI: host_address, MDEV: uuid}


def _read_device(value: Mapping[str, Any]) -> HostDevice:
    kind = codec.one_of((PCI, MDEV), value["kind"], "kind")
    name = _NAMED[kind](_text(value["name"]))
    if name is None:
        raise ValueError(f"{ascii(value['name'])[:60]} names no device")
    holder = value["holder"]
    return HostDevice(
        name=name,
        kind=kind,
        class_code=_text(value["class"]),
        traits=_read_traits(value["traits"]),
        parent=_text(value["parent"]),
        group=_text(value["iommu-group"]),
        neighbours=tuple(map(_text, value["neighbours"])),
        numa=_text(value["numa-node"]),
        bound=value["vfio"] is True,
        holder=None if holder is None else _text(holder),
        migratable=_text(value["migratable"]),
    )


def _read_traits(value: Mapping[str, Any]) -> Traits:
    return from_facts({name: _text(value[name]) for name in NAMES if name in value})


def _read_presented(value: Mapping[str, Any]) -> Presented:
    state = value["state"]
    if state is None:
        return Presented(Missing(UNKNOWN, _text(value["reason"])))
    known = ConfigState(
        codec.config_from_hex(state["config"], "its state"),
        codec.bars_from_objects(state["bars"]),
        codec.evidence(state["evidence"]),
        _text(state["origin"]),
    )
    return Presented(known, _text(value["offers"]))


def _read_type(value: Mapping[str, Any]) -> MdevType:
    return MdevType(
        _word(value["parent"]), _word(value["type"]), _text(value["name"]), int(value["available"])
    )


def _read_pool(value: Mapping[str, Any]) -> Pool:
    devices = tuple(map(_text, value["devices"]))
    return Pool(_text(value["name"]), value["hands_out"] is True, devices)
