#!/usr/bin/python3
"""Every transition of a migration's state machine, on two mediated devices of tests/vm/module.

Through VFIO itself, without QEMU: what a device saves another loads, and what is wrong is refused.
Arguments: those of the module. Ends with 0 if everything is as it should be.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import struct
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

TYPES = Path("/sys/class/mdev_bus/preflight_mdev/mdev_supported_types")
DEVICES = Path("/sys/bus/mdev/devices")
BAR_0, CONFIG = 0, 7 << 40
BLOCK = 1 << 16

# <linux/vfio.h>: _IO(';', 100 + n)
SET_IOMMU, GET_DEVICE_FD = 0x3B66, 0x3B6A
SET_CONTAINER, RESET, FEATURE = 0x3B68, 0x3B6F, 0x3B75
TYPE1_IOMMU = 1
GET, SET = 1 << 16, 1 << 17
MIGRATION, DEVICE_STATE, LOG_START, LOG_STOP, LOG_REPORT = 1, 2, 6, 7, 8
STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P = range(1, 8)


class Device:
    """A mediated device, made and opened."""

    def __init__(self, kind: str) -> None:
        self.uuid = str(uuid.uuid4())
        (TYPES / f"preflight_mdev-{kind}/create").write_text(self.uuid)
        self.settings = DEVICES / self.uuid / "preflight"
        group = os.path.basename(os.readlink(DEVICES / self.uuid / "iommu_group"))
        self.container = os.open("/dev/vfio/vfio", os.O_RDWR)
        self.group = os.open(f"/dev/vfio/{group}", os.O_RDWR)
        fcntl.ioctl(self.group, SET_CONTAINER, struct.pack("i", self.container))
        fcntl.ioctl(self.container, SET_IOMMU, TYPE1_IOMMU)
        self.device = fcntl.ioctl(self.group, GET_DEVICE_FD, bytearray(self.uuid.encode() + b"\0"))

    def feature(self, number: int, data: bytes) -> bytes:
        """VFIO_DEVICE_FEATURE with flags in ``number``; what the kernel leaves in ``data``."""
        argument = bytearray(struct.pack("II", 8 + len(data), number) + data)
        fcntl.ioctl(self.device, FEATURE, argument)
        return bytes(argument[8:])

    def state(self) -> int:
        return int(struct.unpack("Ii", self.feature(GET | DEVICE_STATE, bytes(8)))[0])

    def go(self, state: int) -> int:
        """Change the state; the descriptor of the stream, or -1."""
        answer = self.feature(SET | DEVICE_STATE, struct.pack("Ii", state, -1))
        assert self.state() == state, (self.state(), state)
        return int(struct.unpack("Ii", answer)[1])

    def fail(self, word: str) -> None:
        (self.settings / "fail").write_text(word)

    def remove(self) -> None:
        for descriptor in self.device, self.group, self.container:
            os.close(descriptor)
        (DEVICES / self.uuid / "remove").write_text("1")


@contextlib.contextmanager
def refused(number: int) -> Iterator[None]:
    """What is in the block must fail with that errno."""
    try:
        yield
    except OSError as error:
        assert error.errno == number, error
    else:
        raise AssertionError(f"not refused with {errno.errorcode[number]}")


def read_all(stream: int) -> bytes:
    return b"".join(iter(lambda: os.read(stream, BLOCK), b""))


def change(device: Device, state: int) -> bool:
    """Whether the device gets there; a stream is closed unread."""
    try:
        stream = device.go(state)
    except OSError as error:
        assert error.errno == errno.EINVAL, error
        return False
    if stream >= 0:
        os.close(stream)
    return True


def transitions(device: Device, states: set[int]) -> None:
    """From each state to each other, by way of what the core of VFIO finds.

    The core lets nothing go back to PRE_COPY from STOP_COPY; we take no stream without a state.
    """
    for first, second in itertools.permutations(sorted(states), 2):
        fcntl.ioctl(device.device, RESET)
        back = first == STOP_COPY and second in (PRE_COPY, PRE_COPY_P2P)
        reached = change(device, first) and change(device, second)
        assert reached == (not back and first != RESUMING), (first, second, device.state())
    fcntl.ioctl(device.device, RESET)
    print("states", *sorted(states))


def save(device: Device, *, precopy: bool) -> bytes:
    """The state of a device, which stops."""
    if not precopy:
        stream, data = device.go(STOP_COPY), b""
    else:
        stream, data = device.go(PRE_COPY), b""
        with refused(errno.ENOMSG):
            while True:
                data += os.read(stream, BLOCK)
        assert data and device.go(STOP_COPY) == -1
    data += read_all(stream)
    device.go(STOP)
    with refused(errno.ENODEV):
        os.read(stream, 1)
    os.close(stream)
    return data


def load(device: Device, data: bytes) -> None:
    """A device with that state, running."""
    stream = device.go(RESUMING)
    try:
        for start in range(0, len(data), 1000):
            os.write(stream, data[start : start + 1000])
        device.go(RUNNING)
    finally:
        os.close(stream)


def migration(source: Device, target: Device, *, precopy: bool) -> bytes:
    """What is in the registers moves, and what is in the configuration space does not."""
    registers = os.urandom(4096)
    os.pwrite(source.device, registers, BAR_0)
    data = save(source, precopy=precopy)
    load(target, data)
    assert os.pread(target.device, 8192, BAR_0) == registers
    source.go(RUNNING)
    print("moved", len(data), "bytes")
    return data


def wrong_streams(target: Device, other: Device, data: bytes) -> None:
    """What is cut off, too long, empty or without the state, and another type's."""
    for wrong in data[:-1], data + b"\0", b"", data[:4112]:
        with refused(errno.EINVAL):
            load(target, wrong)
        fcntl.ioctl(target.device, RESET)
    with refused(errno.EINVAL):
        load(other, data)


def failures(device: Device, data: bytes) -> None:
    """Failures as asked for, from which the device recovers."""
    for word, state in ("save", STOP_COPY), ("stop", STOP), ("run", RUNNING):
        if word == "run":
            device.go(STOP)
        device.fail(word)
        with refused(errno.EIO):
            device.go(state)
        device.fail("none")
        assert change(device, state) and change(device, RUNNING)
    for word in "load", "write":
        device.fail(word)
        with refused(errno.EIO):
            load(device, data)
        fcntl.ioctl(device.device, RESET)


def logging(device: Device) -> None:
    """The first page of what is asked for is written to, where the kernel can say that at all."""
    ranges = ctypes.create_string_buffer(struct.pack("QQ", 0, 1 << 20))
    bitmap = ctypes.create_string_buffer(32)
    start = struct.pack("QIIQ", 4096, 1, 0, ctypes.addressof(ranges))
    report = struct.pack("QQQQ", 0, 1 << 20, 4096, ctypes.addressof(bitmap))
    device.fail("log")
    with refused(errno.EIO):
        device.feature(SET | LOG_START, start)
    device.fail("none")
    device.feature(SET | LOG_START, start)
    with refused(errno.EINVAL):
        device.feature(SET | LOG_START, start)
    try:
        device.feature(GET | LOG_REPORT, report)
        assert bitmap.raw == b"\1" + bytes(31), bitmap.raw
        print("logging")
    except OSError as error:
        print("logging:", error)
    device.feature(SET | LOG_STOP, b"")


def check(source: Device, target: Device, other: Device) -> None:
    """All that the module's parameters let the devices do."""
    with refused(errno.EBUSY):
        (source.settings / "bars").write_text("0 0 0 0 0 0")
    for state in 0, 8, 99:
        with refused(errno.EINVAL):
            source.go(state)
    flags = struct.unpack("Q", source.feature(GET | MIGRATION, bytes(8)))[0]
    precopy, p2p = "precopy=1" in sys.argv, "p2p=1" in sys.argv
    assert flags == 1 | p2p << 1 | precopy << 2, flags
    states = {STOP, RUNNING, STOP_COPY, RESUMING}
    states |= ({RUNNING_P2P} if p2p else set()) | ({PRE_COPY} if precopy else set())
    transitions(source, states | ({PRE_COPY_P2P} if p2p and precopy else set()))
    data = migration(source, target, precopy=precopy)
    wrong_streams(target, other, data)
    failures(target, data)
    print("refused what is wrong")


def main() -> None:
    module = f"{os.environ['KERNEL_DIR']}/preflight_mdev.ko"
    subprocess.run(["insmod", module, *sys.argv[1:]], check=True)
    devices = source, target, other = Device("one"), Device("one"), Device("two")
    check(source, target, other)
    if "dirty=1" in sys.argv:
        logging(source)
    for device in devices:
        device.remove()
    subprocess.run(["rmmod", "preflight_mdev"], check=True)
    said = subprocess.run(["dmesg"], check=True, capture_output=True, text=True).stdout
    assert not any(word in said for word in ("WARNING:", "BUG:", "Oops")), said


main()
