"""What VFIO presents of a device of which a file has the physical view."""

from __future__ import annotations

import pytest

from lab.configs import make_config, patched
from unit.physical import as_lspci, as_vf
from vfio_preflight.host.sources.physical import PhysicalError, presented
from vfio_preflight.pci.formats import parse, to_json
from vfio_preflight.pci.space import identity
from vfio_preflight.pci.state import Bar, ConfigState

CONFIG = make_config(4096)
OWN = b"\xff" * 4 + CONFIG[4:]
REGION = "\tRegion 0: Memory at f6000000 (64-bit, prefetchable) [size=16M]\n"


def shown(data: bytes) -> ConfigState:
    return presented(parse(data, "dump.txt"))


def test_vfios_view_is_as_it_is() -> None:
    state = ConfigState(OWN[:4] * 64, (), "vfio", "here")
    again = shown(to_json(state).encode())
    assert (again.config, again.evidence) == (state.config, "vfio")


def test_grade_and_origin() -> None:
    state = shown(as_lspci(CONFIG))
    assert state.evidence == "sysfs"
    assert state.origin == "dump.txt; VFIO's view worked out of the physical device's bytes"


def test_what_vfio_changes_is_changed() -> None:
    asleep = patched(patched(CONFIG, 0x44, 0x0B), 0x45, 0x81)
    assert shown(as_lspci(asleep)).config == CONFIG


def test_vf_with_ids_in_the_text() -> None:
    state = shown(as_vf(patched(CONFIG, 0x3D, 1)))
    assert identity(state.config) == identity(CONFIG)
    assert state.config[0x3D] == 0


@pytest.mark.parametrize("data", [OWN, as_lspci(OWN), as_lspci(OWN, "06:00.4 0200: ffff:ffff")])
def test_vf_without_ids_is_refused_with_what_to_do(data: bytes) -> None:
    with pytest.raises(PhysicalError, match=r"^dump\.txt: its vendor and device ID read ffff"):
        shown(data)
    with pytest.raises(PhysicalError, match="lspci -nn -vvv -xxxx"):
        shown(data)


def test_bars_by_the_text_have_no_address_of_the_hosts() -> None:
    config = patched(patched(CONFIG, 0x10, 0x0C), 0x13, 0xF6)
    state = shown(as_lspci(config, f"06:00.4 VGA: X\n{REGION}"[:-1]))
    assert state.bars == (Bar(0, 16 << 20, "mem64", True),)
    assert state.config[0x10:0x28] == b"\x0c" + bytes(23)


def test_bars_that_the_text_does_not_all_have_are_not_known() -> None:
    config = patched(patched(CONFIG, 0x10, 0x0C), 0x18, 0x0C)
    state = shown(as_lspci(config, f"06:00.4 VGA: X\n{REGION}"[:-1]))
    assert state.bars == ()
    assert state.config[0x10:0x28] == config[0x10:0x28]
