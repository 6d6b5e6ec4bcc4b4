"""The extended capability list: rebuilt on an express bus, walked everywhere (QEMU 10.0.2)."""

from __future__ import annotations

import struct

import pytest

from lab.configs import make_config, patched
from unit.makers import make_extended
from unit.realised import (
    CONVENTIONAL,
    EVERYWHERE,
    I440FX,
    ROOT_COMPLEX,
    ROOT_PORT,
    V10_0,
    V11_1,
    changed,
    extended_chain,
    refused,
    virtual,
)
from vfio_preflight.qemu.model.versions import Behaviour, behaviour
from vfio_preflight.qemu.model.vfio_pci import Environment, compare

EXPRESS = pytest.mark.parametrize("environment", [ROOT_PORT, ROOT_COMPLEX], ids=["port", "complex"])
CONVENTIONAL_BUS = pytest.mark.parametrize(
    "environment", [CONVENTIONAL, I440FX], ids=["q35", "i440fx"]
)

Entry = tuple[int, int, bytes]


def make_listed(*entries: Entry) -> bytes:
    return make_extended(make_config(4096), entries)


def pointed(config: bytes, offset: int, pointer: int) -> bytes:
    """``config`` with another next pointer in the extended capability at ``offset``."""
    header = struct.unpack_from("<I", config, offset)[0] & 0xFFFFF | pointer << 20
    return config[:offset] + struct.pack("<I", header) + config[offset + 4 :]


def checked(config: bytes, environment: Environment = ROOT_PORT) -> set[int]:
    """Offsets beyond 256 that QEMU compares."""
    compared = virtual(config, environment).compared()
    return {offset for offset in range(0x100, 0x1000) if compared[offset]}


@EXPRESS
def test_chain_as_it_is(environment: Environment) -> None:
    config = make_listed((0x100, 0x0001, b""), (0x148, 0x000B, b"\x55" * 8), (0x200, 0x0003, b""))
    shown = virtual(config, environment).config
    assert shown[0x100:] == config[0x100:]
    assert checked(config, environment) == set(range(0x100, 0x1000))


@EXPRESS
def test_descending_chain(environment: Environment) -> None:
    config = make_listed((0x100, 0x0001, b""), (0x300, 0x0003, b""), (0x200, 0x000D, b""))
    expected = [(0x100, 0x0001), (0x300, 0x0003), (0x200, 0x000D)]
    assert extended_chain(virtual(config, environment).config) == expected


@pytest.mark.parametrize("cap_id", [0x0000, 0x000E, 0x0010])
def test_dropped_capability_is_not_checked(cap_id: int) -> None:
    config = make_listed((0x100, 0x0001, b""), (0x140, cap_id, b"\x99" * 8), (0x180, 0x0003, b""))
    assert extended_chain(virtual(config).config) == [(0x100, 0x0001), (0x180, 0x0003)]
    assert checked(config) == set(range(0x100, 0x1000)) - set(range(0x140, 0x180))
    assert compare(virtual(config).config, virtual(patched(config, 0x150, 0xAA))) == ()


@pytest.mark.parametrize(
    ("ats", "version", "kept"),
    [("off", V11_1, False), ("on", V11_1, True), ("auto", V11_1, True), ("off", V10_0, True)],
)
def test_ats(ats: str, version: Behaviour, kept: bool) -> None:
    """The property is new in QEMU 11.1; what no release knows, -global may still set."""
    config = make_listed((0x100, 0x0001, b""), (0x140, 0x000F, b"\x99" * 8), (0x180, 0x0003, b""))
    environment = ROOT_PORT._replace(behaviour=version, properties={"ats": ats})
    shown = extended_chain(virtual(config, environment).config)
    assert ((0x140, 0xF) in shown) is kept and (0x180, 3) in shown
    assert (0x148 in checked(config, environment)) is kept


@pytest.mark.parametrize("cap_id", [0x000E, 0x0010])
def test_dropped_head_leaves_a_null_capability(cap_id: int) -> None:
    config = make_listed((0x100, cap_id, b""), (0x140, 0x0003, b""))
    virtual_config = virtual(config)
    assert extended_chain(virtual_config.config) == [(0x100, 0x0000), (0x140, 0x0003)]
    assert not any(virtual_config.compared()[0x100:0x140])


def test_all_dropped_leaves_nothing() -> None:
    virtual_config = virtual(make_listed((0x100, 0x0010, b""), (0x140, 0x000E, b"")))
    assert virtual_config.config[0x100:0x104] == bytes(4)
    assert not any(virtual_config.compared()[0x100:])


def test_bad_pointer_is_quoted_as_rebuilt() -> None:
    """The guest's list leaves out a null capability, and the pointer to it."""
    one = make_listed((0x100, 0x0001, b""), (0x180, 0x0003, b""))
    other = pointed(one, 0x100, 0x140)
    (found,) = [m for m in compare(virtual(one).config, virtual(other)) if m.offset == 0x103]
    assert (found.stream, found.device) == (0x18, 0x00)


@EXPRESS
@pytest.mark.parametrize("pointer", [0x004, 0x0D0])
def test_pointer_below_100_aborts_where_a_capability_stands(
    pointer: int, environment: Environment
) -> None:
    config = pointed(make_listed((0x100, 0x0001, b"")), 0x100, pointer)
    config = changed(config, {pointer: 1, pointer + 1: 0, pointer + 2: 0, pointer + 3: 0})
    assert refused(config, environment)[0] == "abort"


@EXPRESS
def test_pointer_below_100_to_zero_passes(environment: Environment) -> None:
    config = pointed(make_listed((0x100, 0x0001, b"")), 0x100, 0x0E0)
    assert extended_chain(virtual(config, environment).config) == [(0x100, 0x0001)]


@EVERYWHERE
@pytest.mark.parametrize("pointer", [0x100, 0x140])
def test_loop_hangs(pointer: int, environment: Environment) -> None:
    config = pointed(make_listed((0x100, 1, b""), (0x140, 3, b"")), 0x140, pointer)
    assert refused(config, environment)[0] == "hang"


@EXPRESS
def test_capabilities_four_bytes_apart_abort(environment: Environment) -> None:
    config = make_listed((0x100, 0x0001, b""), (0x200, 0x0003, b""), (0x204, 0x000B, b""))
    assert refused(config, environment)[0] == "abort"


@EXPRESS
@pytest.mark.parametrize(("offset", "works"), [(0xFF8, True), (0xFFC, False)])
def test_capability_at_the_end(offset: int, works: bool, environment: Environment) -> None:
    config = make_listed((0x100, 0x0001, b""), (offset, 0x0003, b""))
    if works:
        assert checked(config, environment) == set(range(0x100, 0x1000))
    else:
        assert refused(config, environment)[0] == "abort"


@CONVENTIONAL_BUS
def test_conventional_bus_shows_the_bytes_but_compares_none(environment: Environment) -> None:
    config = make_listed((0x100, 0x0010, b"\x77" * 8), (0x140, 0x0003, b""))
    assert virtual(config, environment).config[0x100:] == config[0x100:]
    assert checked(config, environment) == set()


@CONVENTIONAL_BUS
@pytest.mark.parametrize(("pointer", "works"), [(0x0E0, False), (0xFFC, False), (0x000, True)])
def test_conventional_bus_walks_the_list_all_the_same(
    pointer: int, works: bool, environment: Environment
) -> None:
    config = pointed(make_listed((0x100, 0x0001, b"")), 0x100, pointer)
    if works:
        virtual(config, environment)
    else:
        assert refused(config, environment)[0] == "abort"


def test_walk_on_a_conventional_bus_ends_at_ari() -> None:
    config = pointed(make_listed((0x100, 0x000E, b"")), 0x100, 0x0E0)
    virtual(config, CONVENTIONAL)


@EXPRESS
def test_device_without_standard_list_keeps_its_extended_one_unchecked(
    environment: Environment,
) -> None:
    config = patched(make_listed((0x100, 0x0001, b"")), 0x06, 0x00)
    assert virtual(config, environment).config[0x100:] == config[0x100:]
    assert checked(config, environment) == set()


def test_destination_without_extended_list_takes_any() -> None:
    source = make_listed((0x100, 0x0001, b"\xde\xad\xbe\xef"))
    assert compare(virtual(source).config, virtual(make_config(4096))) == ()
    assert compare(virtual(make_config(4096)).config, virtual(source)) != ()


# --- resizable BAR -------------------------------------------------------------------------------


def make_rebar(*sizes: int) -> bytes:
    """A ReBAR capability at 100 with one entry a BAR; ``sizes`` are the sizes in force, encoded."""
    body = b"".join(
        struct.pack("<II", 0x00FFFFF0, number | len(sizes) << 5 | size << 8 | 0xF0000000)
        for number, size in enumerate(sizes)
    )
    return make_listed((0x100, 0x0015, body), (0x140, 0x0003, b""))


@pytest.mark.parametrize(("size", "supported"), [(0, 0x10), (8, 0x1000), (19, 0x800000)])
def test_rebar_shows_the_size_in_force_alone(size: int, supported: int) -> None:
    shown = virtual(make_rebar(size)).config
    assert struct.unpack_from("<II", shown, 0x104) == (supported, 0x20 | size << 8)


def test_rebar_of_several_bars() -> None:
    shown = virtual(make_rebar(1, 2)).config
    assert struct.unpack_from("<IIII", shown, 0x104) == (0x20, 0x140, 0x40, 0x241)


def test_rebar_was_left_out_before_8_1() -> None:
    old = ROOT_PORT._replace(behaviour=behaviour("8.0.5"))
    assert extended_chain(virtual(make_rebar(1), old).config) == HIDDEN


HIDDEN = [(0x100, 0x0000), (0x140, 0x0003)]


@pytest.mark.parametrize("size", [20, 27])
def test_rebar_beyond_512_gb_is_hidden_before_10_1(size: int) -> None:
    assert extended_chain(virtual(make_rebar(size)).config) == HIDDEN
    shown = virtual(make_rebar(size), ROOT_PORT._replace(behaviour=V11_1)).config
    assert struct.unpack_from("<II", shown, 0x104) == (1 << size + 4, 0x20 | size << 8)


@pytest.mark.parametrize("size", [28, 31])
def test_rebar_beyond_128_tb_is_hidden(size: int) -> None:
    for environment in (ROOT_PORT, ROOT_PORT._replace(behaviour=V11_1)):
        assert extended_chain(virtual(make_rebar(size), environment).config) == HIDDEN


def test_rebar_supported_sizes_of_the_hosts_may_differ_but_not_the_size() -> None:
    one = make_rebar(8)
    assert compare(virtual(one).config, virtual(patched(one, 0x104, 0x00))) == ()
    found = compare(virtual(one).config, virtual(make_rebar(9)))
    assert {mismatch.offset for mismatch in found} == {0x105, 0x109}
