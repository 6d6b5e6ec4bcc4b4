"""The facts of a host: gathered, written, read back, and judged by on another host."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.domains import KEY, make_domain
from unit.host.hosts import UUID, make_mdev
from unit.makers import (
    EMULATOR,
    HOST,
    differing,
    make_emulator,
    make_host_device,
    make_inventory,
    make_state,
)
from vfio_preflight.configuration import Configuration
from vfio_preflight.gather import hostfacts
from vfio_preflight.gather.hostfacts import HostEmulator, HostFacts, Presented, host_facts
from vfio_preflight.gather.hostjson import FactsError, from_json, to_json
from vfio_preflight.gather.there import facts_there, networks_there, settings_there
from vfio_preflight.guest.domain import Guest, parse_domain, read_guest
from vfio_preflight.guest.record import RecordEntry
from vfio_preflight.guest.traits import Traits
from vfio_preflight.host.inventory import MdevType
from vfio_preflight.host.pools import Pool
from vfio_preflight.pci.state import (
    NO_MIGRATION,
    NOT_MIGRATABLE,
    UNKNOWN,
    ConfigState,
    Missing,
    State,
)

SETTINGS = Configuration(vsc_tolerant=("10de:*",), evidence="sysfs", guest_override="no")


def make_host(state: State | None = None, offers: str = "", **changes: object) -> HostFacts:
    """Host b with the usual device and emulator."""
    inventory = make_inventory(
        types=(MdevType("0000:41:00.0", "nvidia-63", "T4-2Q", 3),),
        pools=(Pool("lan", False), Pool("vfs", True, (HOST,))),
    )
    facts = HostFacts(
        host="b",
        version="1.0",
        time="2026-11-28T10:00:00Z",
        kernel="6.12.1",
        arch="x86_64",
        libvirt="11.3.0",
        emulators={
            EMULATOR: HostEmulator(make_emulator(), "ab" * 32),
            "/usr/libexec/qemu-kvm": HostEmulator(Missing(UNKNOWN, "it hung")),
        },
        inventory=inventory,
        presented={HOST: Presented(state or make_state(), offers)},
        settings=SETTINGS,
        hook=True,
    )
    return facts._replace(**changes)  # type: ignore[arg-type]


def guest() -> Guest:
    return read_guest(parse_domain(make_domain({KEY: make_state()})))


# --- gathered -------------------------------------------------------------------------------------


def test_facts_of_a_made_up_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostfacts, "ask_emulator", lambda *_: make_emulator())
    make_mdev(tmp_path)
    (tmp_path / "proc").mkdir()
    (tmp_path / "etc/libvirt/hooks/qemu.d").mkdir(parents=True)
    (tmp_path / "etc/libvirt/hooks/qemu.d/50-vfio-preflight").touch()
    facts = host_facts(
        Configuration(), time.monotonic() + 5, ["/opt/qemu"], "11.3.0", "", str(tmp_path)
    )
    assert "/opt/qemu" in facts.emulators and facts.hook
    assert UUID in facts.inventory.devices
    # In no group: nobody can have it.
    assert isinstance(facts.presented[UUID].state, Missing)
    assert from_json(to_json(facts), "x").inventory == facts.inventory


# --- written and read -----------------------------------------------------------------------------


def test_read_back() -> None:
    facts = make_host()
    assert from_json(to_json(facts), "b.json") == facts


def test_missing_states_are_read_back() -> None:
    facts = make_host(Missing(UNKNOWN, "nothing has it"))
    assert from_json(to_json(facts), "b.json") == facts


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("host b: Linux 6.12", "takes what 'vfio-preflight host --format json' prints"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not what"),
        ("{}", "not what"),
        ('{"schema": true}', "not what"),
        ('{"schema": 1, "kind": "report"}', "not what"),
        ('{"schema": 0}', "has schema 0|have schema 0, .* upgrade vfio-preflight there"),
        ('{"schema": 2}', "have schema 2, .* upgrade vfio-preflight here"),
        ('{"schema": 1}', "not the facts of a host"),
    ],
)
def test_what_is_no_facts(text: str, why: str) -> None:
    with pytest.raises(FactsError, match=why):
        from_json(text, "b.json")


PLACES = [
    ("devices", 0, "name"), ("devices", 0, "state", "config"), ("devices", 0, "state", "bars"),
    ("devices", 0, "state", "evidence"), ("devices", 0, "holder"), ("devices", 0, "traits"),
    ("devices",), ("emulators",), ("emulators", 0, "path"), ("emulators", 0, "machines"),
    ("configuration", "policy"), ("configuration", "evidence"), ("mdev-types", 0, "available"),
    ("networks", 0, "devices"), ("host",), ("emulators", 0, "target"),
    ("emulators", 0, "compat-entries"), ("emulators", 0, "compat-entries", 0),
    ("emulators", 0, "compat-entries", 0, 1),
]  # fmt: skip
WRONG = st.one_of(
    st.integers(), st.just([[]]), st.just({"x": 1}), st.just(["\x1b]0;"]), st.floats(allow_nan=True)
)


@given(st.sampled_from(PLACES), WRONG)
def test_what_is_wrong_somewhere_is_one_error_or_harmless(
    place: tuple[str | int, ...], wrong: object
) -> None:
    try:
        facts = from_json(spoiled(place, wrong), "b.json")
    except FactsError as error:
        assert str(error).isprintable() and len(str(error)) < 600
    else:
        assert to_json(facts)


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (("mdev-types", 0, "available"), float("inf")),
        (("mdev-types", 0, "parent"), "$(reboot)"),
        (("emulators", 0, "target"), []),
        (("emulators", 0, "compat-entries", 0), "x"),
        (("emulators", 0, "compat-entries", 0, 1), {}),
    ],
)
def test_what_would_be_met_later(place: tuple[str | int, ...], wrong: object) -> None:
    with pytest.raises(FactsError):
        from_json(spoiled(place, wrong), "b.json")


def spoiled(place: tuple[str | int, ...], wrong: object) -> str:
    """The facts of a host with something wrong in that place."""
    value = json.loads(to_json(make_host()))
    inner: Any = value
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = wrong
    return json.dumps(value)


def test_texts_are_made_printable() -> None:
    value = json.loads(to_json(make_host()))
    value["host"] = "\x1b[31mb"
    value["devices"][0]["holder"] = "guest \u202eevil"
    facts = from_json(json.dumps(value), "b.json")
    assert facts.host == "?[31mb"
    assert facts.inventory.devices[HOST].holder == "guest ?evil"


# --- judged by ------------------------------------------------------------------------------------


def test_facts_there() -> None:
    facts = facts_there(guest(), make_host(), Configuration())
    (device,) = facts.devices
    assert isinstance(device.source, ConfigState) and isinstance(device.destination, ConfigState)
    assert device.destination.config == make_state().config
    assert device.destination.origin.endswith(", on b at 2026-11-28T10:00:00Z")
    assert not isinstance(facts.emulator, Missing) and facts.emulator.version == "10.0.2"


def test_settings_are_those_of_that_host() -> None:
    settings = settings_there(make_host(), Configuration(vendor_rules="/here"))
    assert settings == SETTINGS._replace(vendor_rules="/here")


@pytest.mark.parametrize(
    ("there", "kind", "reason"),
    [
        (make_host(presented={}), UNKNOWN, f"b has no device {HOST}"),
        (make_host(state=Missing(UNKNOWN, "nothing has it")), UNKNOWN, "nothing has it"),
        (make_host(offers=NO_MIGRATION), NOT_MIGRATABLE, "does not support migration"),
    ],
)
def test_no_state(there: HostFacts, kind: str, reason: str) -> None:
    (device,) = facts_there(guest(), there, Configuration()).devices
    assert isinstance(device.destination, Missing)
    assert (device.destination.kind, reason in device.destination.reason) == (kind, True)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_state_is_inferred_where_the_traits_are_equal(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    traits = Traits("10de", "1eb8", "10de:12a2", "nvidia-63", "nvidia", version)
    entry = RecordEntry(differing(0x61), traits=traits._replace(driver_version="1.0"))
    there = make_host(
        state=Missing(UNKNOWN, "mdev"), inventory=make_inventory(make_host_device(traits=traits))
    )
    from vfio_preflight.gather import there as module
    from vfio_preflight.guest.record import Record

    monkeypatch.setattr(module, "record_of", lambda _guest: (Record({KEY: entry}), ""))
    (device,) = facts_there(guest(), there, Configuration()).devices
    inferred = isinstance(device.destination, ConfigState)
    assert inferred == (version == "1.0")


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/opt/qemu", "have no emulator /opt/qemu"), ("/usr/libexec/qemu-kvm", "it hung")],
)
def test_emulator_that_is_not_known(path: str, reason: str) -> None:
    facts = facts_there(guest()._replace(emulator=path), make_host(), Configuration())
    assert isinstance(facts.emulator, Missing) and reason in facts.emulator.reason


def test_networks_there() -> None:
    assert [networks_there(make_host(), name) for name in ("vfs", "lan", "none")] == [
        True, False, None,
    ]  # fmt: skip
