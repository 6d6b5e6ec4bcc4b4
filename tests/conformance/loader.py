"""One QEMU that loads one stream after another, of as many VFIO devices as there are places.

A migration ends the process that fails to load it. A *snapshot* does not: ``loadvm`` runs the
same ``qemu_loadvm_state()`` on the same section handlers, prints the same line, and leaves a
machine that can load the next. So the destination's devices are realised once, and each stream is
written into the place of a snapshot's in a qcow2 image and loaded, in 2 ms instead of the 50 of a
process.

A stream here is the least that QEMU takes: the header of one that it wrote itself, the section of
one VFIO device as the source's QEMU sent it, and the mark of the end.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from vfio_preflight.osutil.executable import Executable
from vfio_preflight.pci.state import ConfigState
from vfio_preflight.qemu.emulator.client import Emulator
from vfio_preflight.qemu.trial.endings import FAIL, PASS, Result, mismatch_line
from vfio_preflight.qemu.trial.workbench import (
    FIRST_SLOT,
    Limits,
    Setting,
    Workbench,
    arguments,
)

MAX_DEVICES = 24  # that have a place of their own on every bus
CONFIG_OFFSET = 12  # of configuration space in a section's body: the tag, a version

_END = b"\0" + b"\6" + struct.pack(">I", 2) + b"{}"  # end of file, an empty vmdescription
_FULL, _FOOTER = b"\x04", b"\x7e"
_END_OF_STATE = struct.pack(">Q", 0xFFFFFFFFEF100001)
_STREAM_MAGIC = b"QEVM\0\0\0\3"
_LIMITS = Limits(life=120, cpu=60)
_PATIENCE = 60.0  # seconds; only a machine under load takes more than one
_TAG = "a"


class LoaderError(Exception):
    """The loader itself does not work, or its QEMU ended: no result of a test."""


class Section(bytes):
    """The body of a VFIO device's section."""

    def with_config(self, config: bytes) -> Section:
        """The section with other configuration space of the same size."""
        head, tail = self[:CONFIG_OFFSET], self[CONFIG_OFFSET + len(config) :]
        return Section(head + config + tail)


def device_name(number: int) -> str:
    """The made-up device's name on the host."""
    return f"0000:{number + 1:02x}:00.0"


def devices_options(
    bench: Workbench, side: str, settings: Sequence[Setting], states: Sequence[ConfigState]
) -> list[str]:
    """Add devices to the bench, and return the options of a machine that has them all."""
    paths = [
        bench.add_device(side, device_name(number), state, setting, number + 1)
        for number, (setting, state) in enumerate(zip(settings, states))
    ]
    return arguments(list(zip(paths, settings)), bench.directory)


def topology(placement: str, number: int) -> str:
    """Where :func:`arguments` puts the device of this ``number``, in QEMU's words."""
    if placement in ("root-complex", "i440fx"):
        return f"0000:00:{number + FIRST_SLOT:02x}.0"
    port = f"0000:00:{number // 8 + FIRST_SLOT:02x}.{number % 8}:00.0"
    return port if placement == "root-port" else f"{port}:01.0"


def send(
    bench: Workbench,
    executable: Executable,
    options: Sequence[str],
    side: str,
    paths: Sequence[str],
) -> tuple[bytes, list[Section]]:
    """The header of the stream that the machine of ``options`` sends, and its devices' sections."""
    stream = _migrate(bench, executable, options, side)
    return _header(stream), [_section(stream, path) for path in paths]


def _migrate(bench: Workbench, executable: Executable, options: Sequence[str], side: str) -> bytes:
    path = os.path.join(bench.directory, f"{side}.stream")
    deadline = time.monotonic() + _PATIENCE
    with (
        socket.socket(socket.AF_UNIX) as listener,
        bench.start(executable, options, side, _LIMITS) as emulator,
    ):
        listener.bind(path)
        listener.listen(1)
        listener.settimeout(_PATIENCE)
        bench.give(path)
        _require(emulator, "qmp_capabilities", deadline)
        _require(emulator, "migrate", deadline, uri=f"unix:{path}")
        connection = listener.accept()[0]
        with connection, connection.makefile("rb") as file:
            return file.read()


def _require(emulator: Emulator, command: str, deadline: float, **arguments: object) -> Any:  # noqa: ANN401 - it is JSON
    reply = emulator.ask(command, deadline, **arguments)
    if reply is None or "return" not in reply:
        raise LoaderError(f"{command}: {reply}, status {emulator.status}: {emulator.stderr}")
    return reply["return"]


def _header(stream: bytes) -> bytes:
    """What precedes the first section, that of RAM: magic, version, the machine's configuration."""
    return stream[: stream.index(b"\3ram") - 5]


def _section(stream: bytes, path: str) -> Section:
    idstr = bytes((len(path) + 5,)) + path.encode() + b"/vfio"
    at = -1
    while True:
        at = stream.index(idstr, at + 1)
        number = stream[at - 4 : at]
        if stream[at - 5 : at - 4] == _FULL:
            break
    start = at + len(idstr) + 8
    end = stream.index(_END_OF_STATE + _FOOTER + number, start) + len(_END_OF_STATE)
    return Section(stream[start:end])


class Loader:
    """A machine with the destination's devices; a context manager.

    ``image`` is an empty one, as :func:`make_image` gives it; ``header`` comes from :func:`send`.
    """

    def __init__(
        self,
        bench: Workbench,
        executable: Executable,
        options: Sequence[str],
        side: str,
        header: bytes,
        image: bytes,
    ) -> None:
        self._header = header
        self._ends = contextlib.ExitStack()
        path = os.path.join(bench.directory, f"{side}.qcow2")
        extra = ["-drive", f"if=none,format=qcow2,id=image,file={path}"]
        try:
            self._image = self._ends.enter_context(_file(bench, path))
            os.pwrite(self._image, image, 0)
            self._emulator = self._ends.enter_context(
                bench.start(executable, [*options, *extra], side, _LIMITS)
            )
            self._ask("qmp_capabilities")
            self._monitor(f"savevm {_TAG}")
            self._at = self._find_state()
        except BaseException:
            self._ends.close()
            raise

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ends.close()

    def load(self, path: str, section: Section) -> Result:
        """Load ``section`` into the device at ``path``, a guest's topology as ``0000:00:01.0``."""
        idstr = f"{path}/vfio".encode()
        head = _FULL + struct.pack(">IB", 1, len(idstr)) + idstr + struct.pack(">II", 0, 1)
        stream = self._header + head + section + _FOOTER + struct.pack(">I", 1) + _END
        os.pwrite(self._image, stream, self._at)
        said = self._monitor(f"loadvm {_TAG}")
        if not said.strip():
            return Result(PASS)
        return Result(FAIL, line=mismatch_line(said), stderr=said)

    def _monitor(self, line: str) -> str:
        return str(self._ask("human-monitor-command", **{"command-line": line}))

    def _ask(self, command: str, **arguments: object) -> object:
        return _require(self._emulator, command, time.monotonic() + _PATIENCE, **arguments)

    def _find_state(self) -> int:
        return os.pread(self._image, os.fstat(self._image).st_size, 0).index(_STREAM_MAGIC)


@contextlib.contextmanager
def _file(bench: Workbench, path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        bench.give(path)
        yield descriptor
    finally:
        os.close(descriptor)


def make_image(bench: Workbench, executable: Executable) -> bytes:
    """An empty qcow2 image. QEMU itself makes it: there need not be a qemu-img."""
    path = os.path.join(bench.directory, "empty.qcow2")
    blank = ["-machine", "none", "-nodefaults", "-display", "none", "-S", "-qmp", "stdio"]
    deadline = time.monotonic() + _PATIENCE
    with _file(bench, path) as file, bench.start(executable, blank, "", _LIMITS) as emulator:
        node = {"driver": "file", "filename": path, "node-name": "file"}
        _require(emulator, "qmp_capabilities", deadline)
        _require(emulator, "blockdev-add", deadline, **node)
        options = {"driver": "qcow2", "file": "file", "size": 1 << 20}
        _require(emulator, "blockdev-create", deadline, **{"job-id": "create", "options": options})
        while _require(emulator, "query-jobs", deadline)[0]["status"] != "concluded":
            time.sleep(0.001)
        return os.pread(file, os.fstat(file).st_size, 0)
