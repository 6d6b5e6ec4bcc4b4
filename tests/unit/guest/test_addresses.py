"""Numbers, PCI addresses and UUIDs (guest.addresses)."""

from __future__ import annotations

import re
import uuid as stdlib_uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_preflight.guest import addresses
from vfio_preflight.guest.xml import GuestError

BDF = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("10", 10),
        ("010", 8),
        ("0x1f", 31),
        ("0X1F", 31),
        (" +5", 5),
        ("4294967295", 2**32 - 1),
    ],
)
def test_unsigned_as_strtoul_base_0(text: str, value: int) -> None:
    assert addresses.unsigned(text) == value


@pytest.mark.parametrize(
    "text", ["", "-1", "08", "0x", "1 ", "1.0", "4294967296", "\u0663", "9" * 99]
)
def test_unsigned_refuses(text: str) -> None:
    assert addresses.unsigned(text) is None


def test_pci_address_reads_every_base() -> None:
    attributes = {"domain": "0x10000", "bus": "017", "slot": "31", "function": "0x7"}
    assert addresses.pci_address(attributes) == "10000:0f:1f.7"


@pytest.mark.parametrize(("name", "value"), [("bus", "256"), ("slot", "0x20"), ("function", "8")])
def test_pci_address_out_of_range(name: str, value: str) -> None:
    with pytest.raises(GuestError, match=f"{name}='{value}'"):
        addresses.pci_address({name: value})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("6:0.4", "0000:06:00.4"),
        ("0000:06:00.4", "0000:06:00.4"),
        ("10000:E1:1F.7", "10000:e1:1f.7"),
        ("06:20.0", None),
        ("06:00.8", None),
        ("06:00", None),
        ("0000:06:00.4\n", None),
        ("../0000:06:00.4", None),
    ],
)
def test_host_address(text: str, expected: str | None) -> None:
    assert addresses.host_address(text) == expected


@given(st.uuids(), st.booleans(), st.booleans())
def test_uuid_any_spelling(value: stdlib_uuid.UUID, hyphens: bool, upper: bool) -> None:
    text = str(value) if hyphens else value.hex
    assert addresses.uuid(f" {text.upper() if upper else text}\n") == str(value)


@pytest.mark.parametrize("text", ["", "c2177883", "g" * 32, "0" * 33, "0" * 31, "-" * 10_000])
def test_uuid_refuses(text: str) -> None:
    assert addresses.uuid(text) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/sys/bus/pci/devices/0000:06:00.4", "0000:06:00.4"),
        (
            "/sys/bus/mdev/devices/C2177883-f1bb-47f0-914d-32a22e3a8804/",
            "c2177883-f1bb-47f0-914d-32a22e3a8804",
        ),
        ("/sys/devices/..", None),
        ("", None),
    ],
)
def test_sysfs_device(path: str, expected: str | None) -> None:
    assert addresses.sysfs_device(path) == expected


@given(st.text() | st.from_regex(r"[0-9a-fx:. ]*", fullmatch=True))
def test_nothing_else_comes_out(text: str) -> None:
    """Whatever goes in, what comes out is safe to build a path on."""
    host = addresses.host_address(text)
    assert host is None or BDF.fullmatch(host)
    device = addresses.sysfs_device(text)
    assert device is None or BDF.fullmatch(device) or str(stdlib_uuid.UUID(device)) == device
