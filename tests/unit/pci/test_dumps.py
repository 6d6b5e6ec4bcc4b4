"""Dumps as they reach us: quoted, logged, folded, in words; and what their text says beside."""

from __future__ import annotations

import time

import pytest

from lab.configs import make_config
from unit.physical import as_early, as_lspci, as_mail, as_words
from vfio_preflight.pci.dumps import DumpError, bare, read
from vfio_preflight.pci.formats import PHYSICAL, VFIO, parse

SMALL, LARGE = make_config(), make_config(4096)
ROW = "00: de 10 b8 1e 00 00 10 00 a1 00 02 03 00 00 00 00"


def text_of(config: bytes) -> str:
    return as_lspci(config).decode()


@pytest.mark.parametrize(
    "prefix",
    [
        "> ",
        ">> > ",
        "| ",
        "[    3.141592] ",
        "[  3.141592][    T1] ",
        "<6>[    3.141592] ",
        "[Sat Nov 28 09:59:30 2026] ",
        "Nov 28 09:59:30 host-a kernel: ",
        "Nov  8 09:59:30 host-a.example.com kernel: [    3.141592] ",
        "2026-11-28T09:59:30.123456+00:00 host-a kernel: ",
        "2026-11-28 09:59:30,123 ",
        "[2026-11-28T09:59:30Z] ",
        "09:59:30 ",
        "> [    3.141592] vfio-pci 0000:06:00.4: ",
        "pci 10000:e1:00.0: ",
    ],
)
def test_what_is_put_before_a_line(prefix: str) -> None:
    assert bare(prefix + ROW) == ROW
    quoted = "".join(f"{prefix}{line}\r\n" for line in text_of(SMALL).splitlines())
    assert read(quoted).config == SMALL


@pytest.mark.parametrize("line", [ROW, "0000000 10de 1eb8", "06:00.4 VGA: [x] y", "  [40] PM", ""])
def test_nothing_else_is_taken_off(line: str) -> None:
    assert bare(line) == line


@pytest.mark.parametrize("form", [as_words, as_early, as_mail, as_lspci])
@pytest.mark.parametrize("config", [SMALL, LARGE], ids=["256", "4096"])
def test_forms(form: object, config: bytes) -> None:
    assert callable(form)
    reading = parse(form(config), "dump.txt")
    assert (reading.state.config, reading.view) == (config, PHYSICAL)


@pytest.mark.parametrize(("letter", "width"), [("b", 1), ("w", 2), ("l", 4)])
@pytest.mark.parametrize(
    "template",
    ["{value}", "{offset:02x}.{letter}: {value}", "0000:06:00.4 @{offset:02x} = {value}"],
)
def test_setpci(template: str, letter: str, width: int) -> None:
    lines = ["# setpci -s 06:00.4 00.w 02.w …"]
    for offset in range(0, len(SMALL), width):
        value = SMALL[offset : offset + width][::-1].hex()
        lines.append(template.format(value=value, offset=offset, letter=letter))
    assert read("\n".join(lines)).config == SMALL


@pytest.mark.parametrize("group", [2, 4])
@pytest.mark.parametrize("swapped", [False, True], ids=["bytes", "numbers"])
def test_order_in_groups_is_told_by_the_capabilities_pointer(group: int, swapped: bool) -> None:
    without = make_config(caps=())
    for config in (SMALL, LARGE, without):
        parts = [config[at : at + group] for at in range(0, len(config), group)]
        words = [(part[::-1] if swapped else part).hex() for part in parts]
        each = 16 // group
        rows = (" ".join(words[at : at + each]) for at in range(0, len(words), each))
        text = "\n".join(f"{16 * n:08x}: {row}" for n, row in enumerate(rows))
        if config is not without:
            assert read(text).config == config
        elif group == 4:
            with pytest.raises(DumpError, match="order of bytes in their groups cannot be told"):
                read(text)


def test_setpci_of_several_widths_is_refused() -> None:
    with pytest.raises(DumpError, match="values of several widths"):
        read("10de\n1eb8\n00\n")


def test_early_dumps_of_two_devices() -> None:
    text = (as_early(SMALL) + as_early(SMALL)).decode()
    with pytest.raises(DumpError, match="holds 2 devices"):
        read(text)


def test_regions_in_mail() -> None:
    lines = text_of(SMALL).splitlines()
    lines.insert(1, "\tRegion 0: Memory at f6000000 (64-bit, prefetchable) [size=16M]")
    (bar,) = read("\n".join(f"> {line}" for line in lines)).bars
    assert bar == (0, 16 << 20, "mem64", True)


@pytest.mark.parametrize("address", ["<unassigned>", "<ignored>"])
def test_region_without_an_address_leaves_the_bars_unknown(address: str) -> None:
    lines = text_of(SMALL).splitlines()
    lines.insert(1, f"\tRegion 2: Memory at {address} (64-bit, prefetchable) [size=32M]")
    lines.insert(1, "\tRegion 0: Memory at f6000000 (64-bit, prefetchable) [size=16M]")
    assert read("\n".join(lines)).bars == ()


@pytest.mark.parametrize(
    ("heading", "ids"),
    [
        ("06:00.4 Ethernet controller: A card", None),
        ("06:00.4 0200: 15b3:101a (rev 01)", (0x15B3, 0x101A)),
        ("0000:06:00.4 Ethernet [0200]: A card [X [Y] VF] [15b3:101a] (rev 01)", (0x15B3, 0x101A)),
        ("06:00.4 Class 0200: Device 15b3:101a (rev 01)", (0x15B3, 0x101A)),
    ],
)
def test_ids_that_lspci_prints(heading: str, ids: tuple[int, int] | None) -> None:
    assert read(as_lspci(SMALL, heading).decode()).ids == ids


def test_virtual_function_by_its_name() -> None:
    named = as_lspci(SMALL, "06:00.4 Ethernet controller: X710 Virtual Function")
    assert parse(named, "x").virtual_function
    assert not parse(as_lspci(SMALL), "x").virtual_function
    assert parse(as_lspci(b"\xff" * 4 + SMALL[4:]), "x").virtual_function


@pytest.mark.parametrize(
    ("view", "found"), [("", VFIO), ('"view": "vfio",', VFIO), ('"view": "physical",', PHYSICAL)]
)
def test_json_says_whose_bytes_it_has(view: str, found: str) -> None:
    text = f'{{"schema": 1, {view} "config": "{SMALL.hex()}"}}'
    assert parse(text.encode(), "x").view == found


def test_json_of_a_vfs_own_bytes_is_the_physical_view() -> None:
    """Earlier versions wrote such files of a raw dump, with no word on the view."""
    config = b"\xff" * 4 + SMALL[4:]
    assert parse(f'{{"schema": 1, "config": "{config.hex()}"}}'.encode(), "x").view == PHYSICAL


def test_json_of_an_unknown_view() -> None:
    with pytest.raises(Exception, match="view 'guest' is none of: vfio, physical"):
        parse(f'{{"schema": 1, "view": "guest", "config": "{SMALL.hex()}"}}'.encode(), "x")


@pytest.mark.parametrize("unit", ["> ", "[1] ", "09:59:30 ", " ", "a kernel: "])
def test_any_number_of_prefixes_costs_no_time(unit: str) -> None:
    text = text_of(SMALL).replace("\nf0:", "\n" + unit * 50_000 + "f0:")
    text = text.replace("\n10:", "\n\tRegion 0: Memory at " + "x (" * 100_000 + "\n10:")
    # Of the processor: what else the machine does takes time as well.
    started = time.process_time()
    assert read(text).config[:0xF0] == SMALL[:0xF0]
    assert time.process_time() - started < 2.0
