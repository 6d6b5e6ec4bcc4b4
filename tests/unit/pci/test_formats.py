from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.configs import make_config
from unit.makers import make_extended
from vfio_preflight.errors import PreflightError
from vfio_preflight.pci.formats import PHYSICAL, FormatError, Reading, parse, read_file
from vfio_preflight.pci.space import ConfigSpaceError
from vfio_preflight.pci.state import Bar, ConfigState

SMALL = make_config()
LARGE = make_extended(
    make_config(4096), [(0x100, 0x0001, bytes(range(0x40))), (0x148, 0x0003, b"serial!!")]
)
CONFIGS = [SMALL, LARGE]
SIZES = pytest.mark.parametrize("config", CONFIGS, ids=["256", "4096"])

LSPCI_HEAD = """\
06:00.4 3D controller: NVIDIA Corporation TU102GL [Quadro RTX 6000/8000] (rev a1)
\tSubsystem: NVIDIA Corporation Device 12a2
\tControl: I/O- Mem+ BusMaster+ SpecCycle- MemWINV- VGASnoop- ParErr- Stepping- SERR- FastB2B-
\tRegion 0: Memory at f6000000 (32-bit, non-prefetchable) [size=16M]
\tRegion 1: Memory at e0000000 (64-bit, prefetchable) [size=256M]
\tRegion 3: [virtual] Memory at d0000000 (64-bit, prefetchable) [size=32M]
\tRegion 5: I/O ports at e000 [disabled] [size=128]
\tExpansion ROM at f7000000 [disabled] [size=512K]
\tCapabilities: [60] Power Management version 3
\t\tFlags: PMEClk- DSI- D1- D2- AuxCurrent=0mA PME(D0-,D1-,D2-,D3hot-,D3cold-)
\tCapabilities: [b4] Vendor Specific Information: Len=14 <?>
\tKernel driver in use: nvidia
"""


def lspci(config: bytes, head: str = LSPCI_HEAD) -> str:
    rows = (f"{at:02x}: {config[at : at + 16].hex(' ')}" for at in range(0, len(config), 16))
    return head + "\n".join(rows) + "\n\n"


def xxd(config: bytes) -> str:
    def row(at: int) -> str:
        part = config[at : at + 16]
        shown = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        return f"{at:08x}: {part.hex(' ', 2)}  {shown}\n"

    return "".join(row(at) for at in range(0, len(config), 16))


def hexdump_canonical(config: bytes) -> str:
    """``hexdump -C``, which folds rows that repeat the one before them."""
    lines: list[str] = []
    previous = b""
    for at in range(0, len(config), 16):
        part = config[at : at + 16]
        shown = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        if part != previous:
            lines.append(f"{at:08x}  {part[:8].hex(' ')}  {part[8:].hex(' ')}  |{shown}|")
        elif lines[-1] != "*":
            lines.append("*")
        previous = part
    return "\n".join([*lines, f"{len(config):08x}", ""])


def read(text: str | bytes) -> ConfigState:
    return parse(text.encode() if isinstance(text, str) else text, "dump.txt").state


def complaint(text: str | bytes) -> str:
    with pytest.raises(PreflightError) as caught:
        read(text)
    message = str(caught.value)
    assert message.startswith("dump.txt: ")
    return message


@SIZES
def test_raw(config: bytes) -> None:
    state = ConfigState(config, (), "sysfs", "/sys/config")
    assert parse(config, "/sys/config", "sysfs") == Reading(state, PHYSICAL)


@pytest.mark.parametrize("data", [b"\xff" * 256, b"\xff" * 64 + bytes(4032)], ids=["256", "4096"])
def test_device_that_does_not_answer(data: bytes) -> None:
    for dump in (data, lspci(data)):
        assert "every byte reads ff: the device does not answer" in complaint(dump)


@SIZES
def test_lspci(config: bytes) -> None:
    assert read(lspci(config)).config == config


def test_lspci_regions() -> None:
    assert read(lspci(SMALL)).bars == (
        Bar(0, 16 << 20, "mem32"),
        Bar(1, 256 << 20, "mem64", True),
        Bar(3, 32 << 20, "mem64", True),
        Bar(5, 128, "io"),
        Bar(6, 512 << 10, "mem32"),
    )


def test_lspci_without_verbose_lines_has_no_bars() -> None:
    state = read(lspci(SMALL, "0000:06:00.4 3D controller: NVIDIA Corporation (rev a1)\n"))
    assert (state.config, state.bars, state.evidence) == (SMALL, (), "file")


def test_lspci_with_domain_and_carriage_returns() -> None:
    text = lspci(SMALL, "10000:e1:00.0 Non-Volatile memory controller: x\n").replace("\n", "\r\n")
    assert read(text).config == SMALL


@SIZES
def test_xxd(config: bytes) -> None:
    assert read(xxd(config)).config == config


@SIZES
def test_hexdump_canonical_with_folded_rows(config: bytes) -> None:
    text = hexdump_canonical(config)
    assert "\n*\n" in text
    assert read(text).config == config


@pytest.mark.parametrize(
    "command",
    [
        ("xxd",),
        ("xxd", "-a"),
        ("xxd", "-u"),
        ("xxd", "-g1"),
        ("hexdump", "-C"),
        ("hexdump", "-Cv"),
        ("od", "-Ax", "-tx1"),
        ("od", "-Ax", "-tx1", "-v"),
        ("od", "-A", "x", "-t", "x1z"),
        # Numbers of 16 and 32 bits, offsets in octal and decimal, and no offsets at all.
        ("hexdump",),
        ("hexdump", "-v"),
        ("hexdump", "-x"),
        ("od",),
        ("od", "-v"),
        ("od", "-x"),
        ("od", "-xv"),
        ("od", "-Ax", "-tx2"),
        ("od", "-Ax", "-tx4"),
        ("od", "-Ad", "-tx1"),
        ("od", "-tx1"),
        ("od", "-An", "-v", "-tx1"),
        ("od", "-An", "-v", "-tx2"),
        ("xxd", "-p"),
        ("xxd", "-e"),
        ("xxd", "-e", "-g2"),
        ("xxd", "-g4"),
    ],
    ids=" ".join,
)
@SIZES
def test_what_a_tool_prints(command: tuple[str, ...], config: bytes) -> None:
    assert read(printed(command, config)).config == config


@pytest.mark.parametrize(
    "command",
    [
        ("hexdump", "-b"),
        ("hexdump", "-d"),
        ("od", "-b"),
        ("od", "-td1"),
        ("xxd", "-b"),
        ("xxd", "-c32"),
        ("xxd", "-g8"),
    ],
    ids=" ".join,
)
@SIZES
def test_layouts_that_would_come_out_wrong_are_refused(
    command: tuple[str, ...], config: bytes
) -> None:
    assert "hexdump" in complaint(printed(command, config))


def printed(command: tuple[str, ...], config: bytes) -> bytes:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, input=config, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (b"", "0 bytes in no known format"),
        (bytes(64), "64 bytes are not a PCI configuration space"),
        (bytes(64), "read it as root"),
        (bytes(257), "257 bytes in no known format"),
        ("\n \n", "3 bytes in no known format"),
        ("hello\n", "no bytes found"),
        (lspci(SMALL) + lspci(SMALL), "holds 2 devices; give one (lspci -s ADDRESS)"),
        (lspci(SMALL[:64]), "64 bytes are not a PCI configuration space"),
        (lspci(SMALL[:128]), "read it as root"),
        (lspci(LARGE + bytes(16)), "goes beyond 4096 bytes"),
        (lspci(SMALL).replace("\n20: ", "\n30: "), "is at 0x30, where 0x20 is expected"),
        (lspci(SMALL).replace("\n10: ", "\n00: "), "is at 0x0, where 0x10 is expected"),
        (lspci(SMALL).replace("\n10: ", "\n* "), "is at 0x20, where 0x10 is expected"),
        ("00: de 10\n", "2 bytes are not a PCI configuration space"),
        (lspci(SMALL)[:-8], "and copy all rows"),
        (gzip.compress(SMALL), "compressed (gzip); undo that first (zcat)"),
        (bytes(256), "every byte reads 00: nothing was read"),
        (lspci(bytes(4096)), "every byte reads 00: nothing was read"),
        ("*\n100: 00\n", "is at 0x100, where 0x0 is expected"),
    ],
)
def test_not_a_dump(text: str | bytes, part: str) -> None:
    assert part in complaint(text)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "latin-1"])
@SIZES
def test_text_of_other_systems(encoding: str, config: bytes) -> None:
    text = lspci(config).replace("\n", "\r\n")
    assert parse(text.encode(encoding), "x").state.config == config


def test_utf16_of_a_dumps_size_is_no_dump() -> None:
    text = lspci(SMALL)[:127]
    assert len(text.encode("utf-16")) == 256
    assert "no bytes found" in complaint(text.encode("utf-16"))


def test_marks_of_html_and_terminals() -> None:
    rows = lspci(SMALL).splitlines()
    for lines in (
        ["<pre>" + rows[0], *rows[1:-1], rows[-1] + "</pre>"],
        [f"{row}<br>" for row in rows],
        [f"&gt; {row}" for row in rows],
        [row.replace(" ", "&nbsp;") for row in rows],
        [f"\x1b[1;32m{row}\x1b[0m\x1b[K" for row in rows],
        [f"\u200b{row}" for row in rows],
    ):
        assert read("\n".join(lines)).config == SMALL, lines[0]


def test_folded_rows_without_a_closing_line_are_cut_short() -> None:
    text = hexdump_canonical(SMALL).rsplit("\n", 2)[0]
    assert text.endswith("*")
    assert "are not a PCI configuration space" in complaint(text)


@pytest.mark.parametrize("character", ["\n", " ", "["], ids=ascii)
def test_padding_costs_no_time(character: str) -> None:
    padding = character * 300_000
    text = lspci(SMALL).replace("\tRegion 0", f"{padding}\tRegion 0")
    # Of the processor: what else the machine does takes time as well.
    started = time.process_time()
    with contextlib.suppress(PreflightError):
        read(text.replace("f0:", f"f0:{padding}"))
    assert time.process_time() - started < 2.0


def test_read_file(tmp_path: Path) -> None:
    path = tmp_path / "gpu.txt"
    path.write_text(lspci(SMALL))
    state = read_file(str(path)).state
    assert (state.config, state.evidence, state.origin) == (SMALL, "file", str(path))


def test_read_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"gpu\.txt: cannot be read: No such file"):
        read_file(str(tmp_path / "gpu.txt"))


def test_read_file_that_is_a_directory(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot be read: Is a directory"):
        read_file(str(tmp_path))


def test_read_file_of_any_size_reads_little(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FormatError, match="over 1048576 bytes"):
        read_file(str(path))


# --- whatever there is --------------------------------------------------------------------------


@given(
    st.one_of(
        st.binary(max_size=300),
        st.text(max_size=300).map(str.encode),
        st.text('0123456789abcdef :*|.\n\t[]{}"', max_size=600).map(str.encode),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["schema", "config", "bars", "evidence", "number", "size"]),
                    inner,
                )
            ),
            max_leaves=8,
        )
        .map(lambda value: {**value, "schema": 1} if isinstance(value, dict) else value)
        .map(lambda value: json.dumps(value).encode()),
    )
)
def test_anything_gives_a_state_or_an_error_of_ours(data: bytes) -> None:
    try:
        state = parse(data, "x").state
    except (FormatError, ConfigSpaceError) as error:
        assert str(error).startswith("x: ")
    else:
        assert len(state.config) in (256, 4096)


@given(st.integers(0, len(lspci(SMALL)) - 1), st.characters(codec="utf-8"))
def test_a_damaged_dump_gives_a_state_or_an_error_of_ours(at: int, character: str) -> None:
    text = lspci(SMALL)
    try:
        state = read(text[:at] + character + text[at + 1 :])
    except (FormatError, ConfigSpaceError):
        return
    assert len(state.config) == 256
