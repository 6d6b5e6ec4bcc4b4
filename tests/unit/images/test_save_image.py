from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import itertools
import lzma
import os
import shutil
import struct
import subprocess
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.patience import ends
from unit.streams import CONFIG, PATH, STREAM, make_image, make_stream, vfio
from vfio_preflight.errors import PreflightError
from vfio_preflight.images import decompress
from vfio_preflight.images.decompress import DecompressError, read_ends
from vfio_preflight.images.save_image import (
    FORMATS,
    SaveImage,
    SaveImageError,
    read_image,
    read_open_image,
)
from vfio_preflight.images.stream import MAX_SLACK, StreamError
from vfio_preflight.pci.state import ConfigState

BY_MODULE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
BY_PROGRAM = ("zstd", "lzop")


def packed(form: str, data: bytes = STREAM) -> bytes:
    if form in BY_MODULE:
        return BY_MODULE[form](data)
    if form not in BY_PROGRAM:
        return data
    if shutil.which(form) is None:
        pytest.skip(f"{form} is not installed")
    return subprocess.run([form, "-c"], input=data, capture_output=True, check=True).stdout


@pytest.fixture
def image(tmp_path: Path) -> Callable[[bytes], str]:
    def write(data: bytes) -> str:
        path = tmp_path / "g1.save"
        path.write_bytes(data)
        return str(path)

    return write


def config_of(image: SaveImage) -> bytes:
    state = image.stream.vfio[PATH]
    assert isinstance(state, ConfigState)
    return state.config


@pytest.mark.parametrize("form", FORMATS)
def test_every_format(form: str, image: Callable[[bytes], str]) -> None:
    found = read_image(image(make_image(packed(form), FORMATS.index(form))))
    assert (found.xml, found.cookie, found.format) == (b"<domain/>", b"<cookie/>", form)
    assert (found.running, found.stream.machine) == (True, "pc-q35-9.0")
    assert config_of(found) == CONFIG


def test_origin_is_the_path(image: Callable[[bytes], str]) -> None:
    path = image(make_image(gzip.compress(STREAM), 1))
    state = read_image(path).stream.vfio[PATH]
    assert isinstance(state, ConfigState) and state.origin.startswith(path)


def test_other_byte_order(image: Callable[[bytes], str]) -> None:
    found = read_image(image(make_image(bz2.compress(STREAM), 2, order=">")))
    assert (found.format, config_of(found)) == ("bzip2", CONFIG)


def test_version_1_is_never_compressed(image: Callable[[bytes], str]) -> None:
    found = read_image(image(make_image(STREAM, 3, version=1)))
    assert (found.format, config_of(found)) == ("raw", CONFIG)


def test_without_cookie(image: Callable[[bytes], str]) -> None:
    found = read_image(image(make_image(STREAM, cookie=b"")))
    assert (found.xml, found.cookie, config_of(found)) == (b"<domain/>", b"", CONFIG)


def test_bare_migration_file(image: Callable[[bytes], str]) -> None:
    found = read_image(image(STREAM))
    assert (found.format, found.xml, config_of(found)) == ("qemu", b"", CONFIG)


def test_padding(image: Callable[[bytes], str]) -> None:
    assert config_of(read_image(image(make_image(STREAM) + bytes(4000)))) == CONFIG


@pytest.mark.parametrize("form", ["gzip", "bzip2", "xz"])
def test_several_compressed_streams_and_padding(form: str, image: Callable[[bytes], str]) -> None:
    payload = packed(form, STREAM[:3000]) + packed(form, STREAM[3000:]) + bytes(512)
    assert config_of(read_image(image(make_image(payload, FORMATS.index(form))))) == CONFIG


@pytest.mark.parametrize("form", ["gzip", "bzip2", "xz", "zstd", "lzop"])
def test_only_the_end_is_kept(
    form: str, image: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decompress, "KEPT", 64 << 10)
    payload = packed(form, make_stream([vfio(CONFIG)], ram=bytes(8 << 20)))
    assert config_of(read_image(image(make_image(payload, FORMATS.index(form))))) == CONFIG


def test_ends_are_of_the_documented_size() -> None:
    data = gzip.compress(b"a" * 400, 1) + gzip.compress(b"b" * (34 << 20), 1)
    ends = read_ends(io.BytesIO(data), "gzip", time.monotonic() + 60)
    assert ends.head == b"a" * 400 + b"b" * 112
    assert len(ends.tail) == 32 << 20


def test_gzip_with_the_largest_distance_there_is() -> None:
    """Deflate looks back by up to 32 KiB."""
    block = b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(1000))
    ends = read_ends(io.BytesIO(gzip.compress(block * 2)), "gzip", time.monotonic() + 60)
    assert ends.tail == block * 2


def test_zlib_is_not_gzip() -> None:
    with pytest.raises(DecompressError):
        read_ends(io.BytesIO(zlib.compress(STREAM)), "gzip", time.monotonic() + 60)


def test_memory_is_bounded_while_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompress, "KEPT", 64 << 10)
    monkeypatch.setattr(decompress, "_CHUNK", 15_000)
    data = io.BytesIO(gzip.compress(bytes(8 << 20), 1))
    tracemalloc.start()
    try:
        read_ends(data, "gzip", time.monotonic() + 60)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("form", BY_MODULE)
def test_zeros_that_may_follow_are_counted(form: str) -> None:
    data, zeros = packed(form, b"x"), bytes(MAX_SLACK)
    assert read_ends(io.BytesIO(data + zeros), form, time.monotonic() + 60).tail == b"x"
    with pytest.raises(DecompressError):
        read_ends(io.BytesIO(data + zeros + b"\0"), form, time.monotonic() + 60)


@pytest.mark.parametrize("form", ["gzip", "bzip2", "xz", "zstd", "lzop"])
@pytest.mark.parametrize("cut", [1, 3, 5, 200])
def test_compressed_and_cut_short(form: str, cut: int, image: Callable[[bytes], str]) -> None:
    data = make_image(packed(form), FORMATS.index(form))[:-cut]
    with pytest.raises((SaveImageError, StreamError)):
        read_image(image(data))


@pytest.mark.parametrize("form", ["gzip", "bzip2", "xz", "zstd", "lzop"])
def test_compressed_and_damaged(form: str, image: Callable[[bytes], str]) -> None:
    data = bytearray(make_image(packed(form), FORMATS.index(form)))
    data[-len(data) // 3] ^= 0x10
    with pytest.raises((SaveImageError, StreamError), match="damaged"):
        read_image(image(bytes(data)))


@pytest.mark.parametrize("form", ["gzip", "bzip2", "xz", "zstd", "lzop"])
def test_nothing_in_it(form: str, image: Callable[[bytes], str]) -> None:
    with pytest.raises((SaveImageError, StreamError)):
        read_image(image(make_image(b"", FORMATS.index(form))))


@pytest.mark.parametrize("form", ["gzip", "bzip2", "xz", "zstd", "lzop"])
def test_time_is_limited(form: str, image: Callable[[bytes], str]) -> None:
    payload = packed(form, bytes(64 << 20))
    path = image(make_image(payload, FORMATS.index(form)))
    with ends(), pytest.raises(SaveImageError, match="too long"):
        read_image(path, deadline=time.monotonic() + 0.01)


class Endless(io.BytesIO):
    """One piece after ``begin`` again and again, for a minute: nothing here may take as long."""

    def __init__(self, begin: bytes, piece: bytes) -> None:
        super().__init__(begin)
        self.piece, self.pieces = len(piece), piece * ((1 << 20) // len(piece))
        self.until = time.monotonic() + 60

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None and size > 0
        if time.monotonic() > self.until:
            return b""
        return super().read(size) or self.pieces[: size // self.piece * self.piece]


EMPTY = {form: pack(b"") for form, pack in BY_MODULE.items()}
UNENDED_NAME = b"\x1f\x8b\x08\x08" + bytes(6)


@pytest.mark.parametrize(
    ("form", "begin", "piece", "why"),
    [
        *((form, EMPTY[form], b"\0", "zeros follow") for form in BY_MODULE),
        *((form, b"", EMPTY[form], "too long") for form in BY_MODULE),
        ("gzip", UNENDED_NAME, b"x", "too long"),
    ],
    ids=range(7),
)
def test_what_unpacks_to_nothing_ends(form: str, begin: bytes, piece: bytes, why: str) -> None:
    with ends(), pytest.raises(DecompressError, match=why):
        read_ends(Endless(begin, piece), form, time.monotonic() + 0.2)


@pytest.mark.parametrize("form", BY_MODULE)
def test_many_streams_are_one(form: str) -> None:
    """Each of a few bytes, so that one ends at every place in what is read at once."""
    pack = BY_MODULE[form]
    parts = [bytes([n % 251]) * (n % 7) for n in range(9000)]
    made = {part: pack(part) for part in set(parts)}
    data = io.BytesIO(b"".join(made[part] for part in parts))
    ends = read_ends(data, form, time.monotonic() + 20)
    assert ends.tail == b"".join(parts)


@pytest.mark.parametrize("form", ["gzip", "bzip2", "xz", "zstd", "lzop"])
def test_time_is_not_limited_unless_asked(
    form: str, image: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command waits for a large image; who has not the time interrupts it."""
    hours = (3600.0 * number for number in itertools.count())
    path = image(make_image(packed(form), FORMATS.index(form)))
    monkeypatch.setattr(time, "monotonic", lambda: next(hours))
    assert config_of(read_image(path)) == CONFIG


def test_memory_of_xz_is_limited(image: Callable[[bytes], str]) -> None:
    greedy = lzma.compress(STREAM, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}])
    with pytest.raises(SaveImageError, match=r"[Mm]emory"):
        read_image(image(make_image(greedy, 3)))


def test_program_that_is_missing(image: Callable[[bytes], str], tmp_path: Path) -> None:
    path = image(make_image(b"", FORMATS.index("zstd")))
    with pytest.raises(SaveImageError, match="this host has no /usr/bin/zstd"):
        read_image(path, root=str(tmp_path))


def test_program_of_another_user_is_not_run(image: Callable[[bytes], str], tmp_path: Path) -> None:
    program = tmp_path / "usr/bin/zstd"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\ncat\n")
    program.chmod(0o777)
    with pytest.raises(SaveImageError, match="cannot be run"):
        read_image(image(make_image(STREAM, FORMATS.index("zstd"))), root=str(tmp_path))


@pytest.fixture
def zstd(tmp_path: Path) -> Callable[[str], str]:
    """A root directory whose zstd is this shell script, and that any user gets into."""

    def make(script: str) -> str:
        for directory in (tmp_path, *list(tmp_path.parents)[:-2]):
            directory.chmod(directory.stat().st_mode | 0o055)
        program = tmp_path / "usr/bin/zstd"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return str(tmp_path)

    return make


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_program_runs_without_privileges(
    image: Callable[[bytes], str], zstd: Callable[[str], str]
) -> None:
    path = image(make_image(STREAM, FORMATS.index("zstd")))
    os.chmod(path, 0o600)
    root = zstd('[ "$(id -u)" != 0 ] && [ "$*" = -dcq ] && exec cat')
    assert config_of(read_image(path, root=root)) == CONFIG


def test_program_that_does_not_end_is_stopped(
    image: Callable[[bytes], str], zstd: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decompress, "_GRACE", 0.2)
    path = image(make_image(STREAM, FORMATS.index("zstd")))
    with pytest.raises(SaveImageError, match="does not exit"):
        read_image(path, root=zstd("cat; exec >&-; exec sleep 60"))


@pytest.mark.parametrize(
    ("left", "script"),
    [(0.2, "exec sleep 60"), (-0.5, "exec sleep 60"), (0.5, "echo x >&2; exec sleep 60")],
)
def test_program_that_writes_nothing_is_stopped(
    left: float, script: str, image: Callable[[bytes], str], zstd: Callable[[str], str]
) -> None:
    path, root = image(make_image(STREAM, FORMATS.index("zstd"))), zstd(script)
    with ends(), pytest.raises(SaveImageError, match="too long"):
        read_image(path, time.monotonic() + left, root)


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("-v", str((1 << 30) // 1024)),  # address space, KiB: what a hostile window may take
        ("-f", "0"),  # size of files it may write
        ("-t", "62"),  # processor time, for a deadline in 60 seconds
    ],
)
def test_program_is_limited(
    limit: str, value: str, image: Callable[[bytes], str], zstd: Callable[[str], str]
) -> None:
    """The limits are set while it already runs; it gets two seconds to see them."""
    path = image(make_image(STREAM, FORMATS.index("zstd")))
    seen = f'[ "$(ulimit {limit})" = {value} ]'
    wait = f"n=0; until {seen} || [ $n = 20 ]; do sleep 0.1; n=$((n + 1)); done"
    root = zstd(f"{wait}; {seen} && exec cat")
    assert config_of(read_image(path, time.monotonic() + 60.9, root)) == CONFIG


@pytest.mark.parametrize(("left", "seconds"), [(-10.0, 2), (0.5, 2), (9.5, 11)])
def test_processor_time_of_a_program(
    left: float, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    assert decompress._cpu_seconds(100.0 + left) == seconds
    assert decompress._cpu_seconds(float("inf")) is None


def test_little_is_read_of_a_large_image() -> None:
    class CountingFile(io.BytesIO):
        count = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.count += len(data)
            return data

    file = CountingFile(make_image(make_stream([vfio(CONFIG)], ram=bytes(64 << 20))))
    assert config_of(read_open_image(file, "large")) == CONFIG
    assert file.count < 200_000


HEADER = make_image(STREAM)[:92]


def patched_header(at: int, value: int) -> bytes:
    data = bytearray(make_image(STREAM))
    struct.pack_into("<I", data, at, value)
    return bytes(data)


UNENDED = make_image(STREAM, xml=b"<domain/>" * 9, cookie=b"")

WRONG = {
    "partial": (make_image(STREAM, magic=b"LibvirtQemudPart"), "incomplete"),
    "other magic": (make_image(STREAM, magic=b"LibvirtQemudSafe"), "neither a libvirt save image"),
    "qcow2": (b"QFI\xfb" + bytes(200), "cannot be read; only a file of its own can"),
    "empty": (b"", "neither a libvirt save image"),
    "short header": (HEADER[:91], "neither a libvirt save image"),
    "header alone": (HEADER, "ends within its XML"),
    "version 3": (patched_header(16, 3), "of version 3"),
    "version 0": (patched_header(16, 0), "of version 0"),
    "no data": (patched_header(20, 0), "with 0 bytes of XML"),
    "too much data": (patched_header(20, 1 << 31), "bytes of XML, which is not possible"),
    "format 7": (patched_header(28, 7), "of format 7"),
    "cookie outside": (patched_header(32, 5000), "cookie at an invalid offset"),
    "unended XML": (patched_header(32, 4), "does not end"),
    "no end at all": (UNENDED[:92] + UNENDED[92:].replace(b"\0", b"x"), "does not end"),
}


@pytest.mark.parametrize("name", WRONG)
def test_header_that_is_wrong(name: str, image: Callable[[bytes], str]) -> None:
    data, why = WRONG[name]
    with pytest.raises(SaveImageError, match=why):
        read_image(image(data))


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in ("/dev/null", "/dev/zero", str(tmp_path), str(tmp_path / "fifo")):
        with pytest.raises(SaveImageError, match=r"neither a file nor|cannot be opened"):
            read_image(path)
    for path in (str(tmp_path / "none"), "nul\0byte"):
        with pytest.raises(SaveImageError, match="cannot be opened"):
            read_image(path)


# --- hostile input ----------------------------------------------------------------------------

IMAGES = [make_image(packed(form), FORMATS.index(form)) for form in ("raw", *BY_MODULE)]
# Where the device's bytes stand in the one that has no checksum.
AT = IMAGES[0].index(CONFIG, IMAGES[0].index(f"{PATH}/vfio".encode()))


@given(st.sampled_from(IMAGES), st.data())
def test_mutated(whole: bytes, data: st.DataObject) -> None:
    """No byte is returned but one that stands where the device's own do."""
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(whole) - 1) | st.integers(0, 100))
        changed[at] = data.draw(st.integers(0, 255))
    expected = bytes(changed[AT : AT + len(CONFIG)])
    del changed[data.draw(st.just(len(whole)) | st.integers(0, len(whole))) :]
    changed += data.draw(st.builds(bytes, st.integers(0, 5000)) | st.binary(max_size=40))
    with ends():
        try:
            found = read_open_image(io.BytesIO(bytes(changed)), "made up", time.monotonic() + 2)
        except PreflightError as error:
            assert str(error).startswith("made up: ")
        else:
            state = found.stream.vfio.get(PATH)
            if isinstance(state, ConfigState):
                raw = whole is IMAGES[0]
                assert state.config == (expected if raw else CONFIG)  # the others have checksums
