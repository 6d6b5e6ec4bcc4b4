from __future__ import annotations

import functools
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.configs import make_config, patched
from unit.makers import make_extended
from vfio_preflight.pci.registers import (
    EXTENDED,
    EXTENDED_HEADER,
    FIELDS,
    HEADER,
    LIST_HEADER,
    STANDARD,
    Register,
    locate,
)
from vfio_preflight.pci.space import PCIE_CONFIG_SPACE_SIZE

CONFIG = make_config()
EXTENDED_CONFIG = make_extended(
    make_config(4096),
    [
        (0x100, 0x0001, b""),
        (0x148, 0x0003, b""),
        (0x160, 0x0019, b""),
        (0x200, 0x0015, b""),
        (0x240, 0x000B, b""),
        (0x280, 0x0023, b""),
        (0x2C0, 0x7777, b""),
    ],
)


def told(config: bytes, offset: int) -> tuple[str, str]:
    place = locate(config, offset)
    return place.where, place.register


@pytest.mark.parametrize(
    ("offset", "register"),
    [
        (0x01, "Vendor ID"),
        (0x02, "Device ID"),
        (0x06, "Status"),
        (0x08, "Revision ID"),
        (0x0B, "Class code"),
        (0x0E, "Header type"),
        (0x13, "BAR0"),
        (0x24, "BAR5"),
        (0x2E, "Subsystem ID"),
        (0x30, "Expansion ROM"),
        (0x34, "Capabilities pointer"),
        (0x3D, "Interrupt pin"),
    ],
)
def test_locate_header(offset: int, register: str) -> None:
    assert told(CONFIG, offset) == ("header", register)


@pytest.mark.parametrize(
    ("offset", "where", "register"),
    [
        (0x40, "PM at 0x40", "Capability ID"),
        (0x41, "PM at 0x40", "Next pointer"),
        (0x43, "PM at 0x40", "PMC"),
        (0x44, "PM at 0x40", "PMCSR"),
        (0x52, "MSI at 0x50", "Message control"),
        (0x54, "MSI at 0x50", "Message address"),
        (0x58, "MSI at 0x50", "Message upper address"),
        (0x5C, "MSI at 0x50", "Message data"),
        (0x60, "VSC at 0x60", "Capability ID"),
        (0x62, "VSC at 0x60", "Length"),
        (0x63, "VSC at 0x60", "Vendor Specific Information"),
        (0x77, "VSC at 0x60", "Vendor Specific Information"),
        (0x7A, "PCIe at 0x78", "PCIe capabilities"),
        (0x7F, "PCIe at 0x78", "DEVCAP"),
        (0x84, "PCIe at 0x78", "LNKCAP"),
        (0x8A, "PCIe at 0x78", "LNKSTA"),
        (0xAA, "PCIe at 0x78", "LNKSTA2"),
        (0xBA, "MSI-X at 0xb8", "Message control"),
        (0xBC, "MSI-X at 0xb8", "Table offset/BIR"),
        (0xC3, "MSI-X at 0xb8", "PBA offset/BIR"),
        (0xC4, "MSI-X at 0xb8", "capability data"),
    ],
)
def test_locate_standard_capability(offset: int, where: str, register: str) -> None:
    assert told(CONFIG, offset) == (where, register)


@pytest.mark.parametrize(
    ("control", "offset", "register"),
    [
        (0x0000, 0x58, "Message data"),
        (0x0100, 0x5C, "Mask bits"),
        (0x0100, 0x60, "Pending bits"),
        (0x0180, 0x58, "Message upper address"),
        (0x0180, 0x5C, "Message data"),
        (0x0180, 0x60, "Mask bits"),
        (0x0180, 0x64, "Pending bits"),
    ],
)
def test_locate_msi_follows_its_control_register(control: int, offset: int, register: str) -> None:
    config = make_config(caps=[("msi", 0x50)])
    config = patched(patched(config, 0x52, control & 0xFF), 0x53, control >> 8)
    assert told(config, offset) == ("MSI at 0x50", register)


@pytest.mark.parametrize(
    ("offset", "where", "register"),
    [
        (0x101, "AER at 0x100", "Extended capability header"),
        (0x104, "AER at 0x100", "Uncorrectable error status"),
        (0x12B, "AER at 0x100", "Header log"),
        (0x14C, "DSN at 0x148", "Serial number"),
        (0x153, "DSN at 0x148", "Serial number"),
        (0x16C, "Secondary PCIe at 0x160", "Lane equalisation control"),
        (0x208, "ReBAR at 0x200", "ReBAR control 0"),
        (0x20C, "ReBAR at 0x200", "ReBAR capability 1"),
        (0x244, "VSEC at 0x240", "VSEC header"),
        (0x248, "VSEC at 0x240", "Vendor-specific registers"),
        (0x288, "DVSEC at 0x280", "DVSEC ID"),
        (0x28A, "DVSEC at 0x280", "Designated vendor-specific registers"),
        (0x2C4, "capability 0x7777 at 0x2c0", "capability data"),
    ],
)
def test_locate_extended_capability(offset: int, where: str, register: str) -> None:
    assert told(EXTENDED_CONFIG, offset) == (where, register)


@pytest.mark.parametrize("offset", [0x40, 0x70, 0xFF])
def test_locate_outside_any_capability(offset: int) -> None:
    config = make_config(caps=[])
    assert told(config, offset) == ("no capability", "bytes outside any capability")


def test_locate_beyond_256_bytes_of_a_small_space() -> None:
    assert told(CONFIG, 0x123) == ("no capability", "bytes outside any capability")


@pytest.mark.parametrize(
    ("offset", "difference", "fields"),
    [
        (0x8A, 0x0003, ("current link speed",)),
        (0x8A, 0x0120, ("negotiated link width",)),
        (0x8A, 0x1012, ("current link speed", "negotiated link width", "slot clock")),
        (0x84, 0xFF000000, ("port number",)),
        (0x42, 0x0003, ("version",)),
        (0x44, 0x0008, ("no soft reset",)),
        (0x44, 0x8100, ("PME enable", "PME status")),
        (0xBA, 0x0008, ("table size",)),
        (0x06, 0x0010, ("capability list",)),
        (0x0E, 0x0081, ("layout", "multi-function")),
        (0x63, 0xFF, ()),
        (0x8A, 0x0800, ()),
    ],
)
def test_fields(offset: int, difference: int, fields: tuple[str, ...]) -> None:
    assert locate(CONFIG, offset).fields(difference) == fields


def test_place_bounds_the_register() -> None:
    place = locate(CONFIG, 0x8B)
    assert (place.start, place.size) == (0x8A, 2)


@pytest.mark.parametrize(
    "rows", [HEADER, *(LIST_HEADER + r for r in STANDARD.values()),
             *(EXTENDED_HEADER + r for r in EXTENDED.values())]
)  # fmt: skip
def test_tables_are_in_order_and_do_not_overlap(rows: tuple[Register, ...]) -> None:
    for (start, size, name), (following, _, _) in zip(rows, rows[1:]):
        assert size > 0 and start + size <= following, name


def test_header_table_is_complete() -> None:
    assert sum(size for _, size, _ in HEADER) == 0x40


def test_fields_belong_to_registers_that_exist_and_fit_them() -> None:
    for (extended, owner, register), fields in FIELDS.items():
        table = HEADER if owner == -1 else (EXTENDED if extended else STANDARD).get(owner, ())
        sizes = [size for _, size, name in table if name == register]
        if owner == 0x05:
            sizes = [2]
        assert sizes, (owner, register)
        masks = [mask for mask, _ in fields]
        assert sum(masks) < 1 << 8 * sizes[0]
        assert sum(masks) == functools.reduce(operator.or_, masks), "fields overlap"


@given(
    st.one_of(st.binary(min_size=256, max_size=256), st.binary(min_size=4096, max_size=4096)),
    st.integers(0, PCIE_CONFIG_SPACE_SIZE - 1),
    st.integers(0, 0xFFFFFFFF),
)
def test_locate_names_any_byte_of_any_bytes(config: bytes, offset: int, difference: int) -> None:
    place = locate(config, offset)
    assert place.start <= offset < place.start + place.size
    assert place.where and place.register
    assert isinstance(place.fields(difference), tuple)
