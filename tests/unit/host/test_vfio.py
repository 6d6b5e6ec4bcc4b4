from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.configs import make_config
from unit.patience import ends
from vfio_preflight.host import descriptors, vfio, vfio_api
from vfio_preflight.host.vfio import NotFreeError, VfioError, read_free, read_in_use
from vfio_preflight.host.vfio_api import seen_by_qemu
from vfio_preflight.qemu.trial import shim

NAME = "0000:06:00.4"
UUID = "c0ffee00-1111-4222-8333-444455556666"
SYSPATH = f"sys/devices/pci0000:06/{NAME}"
CONFIG = make_config()
QEMU = "/usr/bin/qemu-system-x86_64"

# Prints what a child under the shim reads.
CHILD = """
import json, sys
from vfio_preflight.host import vfio
from vfio_preflight.errors import PreflightError
root, name, *pid = sys.argv[1:]
try:
    read = vfio.read_in_use(name, int(pid[0]), root) if pid else vfio.read_free(name, root)
except PreflightError as error:
    print(json.dumps(str(error)))
else:
    state = read.state
    print(json.dumps([state.config.hex(), state.bars, state.evidence, read.migration]))
"""


class FakeHost:
    """A root with devices in sysfs, and the shim's directory for the same devices."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.shim = root / "shim"
        self.shim.mkdir()

    def add(self, name: str, group: int, config: bytes = CONFIG) -> Path:
        bus = "mdev" if len(name) == 36 else "pci"
        device = self.root / "sys/devices/pci0000:06" / name
        device.mkdir(parents=True)
        link = self.root / f"sys/bus/{bus}/devices" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(device)
        members = self.root / f"sys/kernel/iommu_groups/{group}/devices"
        members.mkdir(parents=True, exist_ok=True)
        (members / name).symlink_to(device)
        (device / "iommu_group").symlink_to(members.parent)
        home = self.shim / name
        home.mkdir()
        (home / "config").write_bytes(config)
        (home / "group").write_text(str(group))
        (home / "regions").write_text("0 0x4000 rw\n2 32 rw\n6 65536 r\n")
        return device

    def add_process(self, pid: int, files: dict[int, tuple[str, str]]) -> None:
        """``files``: number -> target of the link, more lines of fdinfo."""
        home = self.root / f"proc/{pid}"
        shutil.rmtree(home, ignore_errors=True)
        for name in ("fd", "fdinfo"):
            (home / name).mkdir(parents=True)
        for number, (target, info) in files.items():
            (home / f"fd/{number}").symlink_to(target)
            (home / f"fdinfo/{number}").write_text(f"pos:\t0\nflags:\t02000002\n{info}")


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    return shim.build(str(tmp_path_factory.mktemp("shim") / "fakevfio.so"))


def child(host: FakeHost, library: str, *arguments: str, prologue: str = "") -> object:
    """Run :data:`CHILD` under the shim."""
    environment = {
        "LD_PRELOAD": library,
        "FAKEVFIO_DIR": str(host.shim),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", prologue + CHILD, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# The shim answers for the machine's own /dev/vfio, so the root is the machine's, and sysfs is not.
FAKE_SYSFS = """
from vfio_preflight.host import vfio
vfio._directory = lambda name, root: {!r}
"""


@pytest.mark.parametrize("size", [256, 4096])
@pytest.mark.parametrize("name", [NAME, UUID])
def test_free_device_through_its_group(host: FakeHost, library: str, name: str, size: int) -> None:
    config = make_config(size)
    device = host.add(name, 26, config)
    answer = child(host, library, "/", name, prologue=FAKE_SYSFS.format(str(device)))
    bars = [[0, 0x4000, "mem32", False], [2, 32, "mem32", False], [6, 65536, "mem32", False]]
    assert answer == [config.hex(), bars, "vfio", ["stop-copy", "p2p"]]


def test_device_that_is_not_there(host: FakeHost) -> None:
    with pytest.raises(VfioError, match="this host has no device"):
        read_free(NAME, str(host.root))


@pytest.mark.parametrize("name", ["", "06:00.4", "../../../etc", "0000:06:00.8", UUID.upper()])
def test_name_that_is_none(host: FakeHost, name: str) -> None:
    with pytest.raises(VfioError, match="neither"):
        read_free(name, str(host.root))


def test_device_without_vfio(host: FakeHost) -> None:
    host.add(NAME, 26)
    with pytest.raises(NotFreeError, match="not bound to a VFIO driver"):
        read_free(NAME, str(host.root))


# --- requests and structures ------------------------------------------------------------------


def test_request_numbers() -> None:
    """As the C preprocessor has them: _IO(';', 100 + n) on all architectures but a few old ones."""
    assert vfio_api.VFIO_GET_API_VERSION == 0x3B64
    assert vfio_api.VFIO_DEVICE_GET_REGION_INFO == 0x3B6C
    assert vfio_api.VFIO_DEVICE_BIND_IOMMUFD == 0x3B76


def test_request_numbers_and_sizes_are_the_headers(tmp_path: Path) -> None:
    if shutil.which("cc") is None or not Path("/usr/include/linux/vfio.h").exists():
        pytest.skip("no C compiler or no kernel headers")
    source = tmp_path / "numbers.c"
    # Debian 12's headers, of Linux 6.1, have none of these yet.
    newer = {"VFIO_DEVICE_BIND_IOMMUFD", "VFIO_DEVICE_FEATURE_MIG_DATA_SIZE"}
    newer.add("VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP")
    names = [name for name in vars(vfio_api) if name.startswith("VFIO_") and name not in newer]
    numbers = "".join(f'printf("{name} %ld\\n", (long){name});' for name in names)
    sizes = "".join(f'printf("{name} %zu\\n", sizeof(struct {name}));' for name in STRUCTURES)
    source.write_text(
        "#include <stdio.h>\n#include <linux/vfio.h>\n#include <sys/ioctl.h>\n"
        f"int main(void) {{ {numbers} {sizes} }}\n"
    )
    subprocess.run(["cc", str(source), "-o", str(tmp_path / "numbers")], check=True)
    done = subprocess.run([tmp_path / "numbers"], capture_output=True, text=True, check=True)
    found = {line.split()[0]: int(line.split()[1]) for line in done.stdout.splitlines()}
    mine = {name: getattr(vfio_api, name) for name in names}
    mine.update({name: layout.size - extra for name, (layout, extra) in STRUCTURES.items()})
    # Newer headers add fields at the end, which the kernel does not ask for.
    assert found["vfio_device_info"] >= mine.pop("vfio_device_info")
    assert {name: found[name] for name in mine} == mine


STRUCTURES = {
    "vfio_group_status": (vfio_api.GROUP_STATUS, 0),
    "vfio_device_info": (vfio_api._DEVICE_INFO, 0),
    "vfio_region_info": (vfio_api._REGION_INFO, 0),
    "vfio_device_feature": (vfio_api._FEATURE, 8),
}


class FakeKernel:
    """Answers of a device behind iommufd, and what it was asked."""

    def __init__(self, config: bytes = CONFIG, flags: int = 2, migration: int | None = 7) -> None:
        self.config, self.flags, self.migration = config, flags, migration
        self.data_size: int | None = None
        self.bound: tuple[int, ...] = ()
        self.asked: list[int] = []
        # What follows the structure of GET_INFO; where the first of it begins.
        self.capabilities, self.first = b"", 20

    def ioctl(self, device: int, request: int, argument: bytearray) -> int:
        if request == vfio_api.VFIO_DEVICE_BIND_IOMMUFD:
            self.bound = struct.unpack("=IIiI", argument)
        elif request == vfio_api.VFIO_DEVICE_GET_INFO:
            self.info(argument)
        elif request == vfio_api.VFIO_DEVICE_GET_REGION_INFO:
            self.region(argument)
        elif request == vfio_api.VFIO_DEVICE_FEATURE:
            self.feature(argument)
        else:
            raise OSError(25, "Inappropriate ioctl for device")
        return 0

    def info(self, argument: bytearray) -> None:
        """As ``vfio_pci_ioctl_get_info``: with capabilities if there is room for all of them."""
        (room,) = struct.unpack_from("=I", argument)
        assert room == len(argument)
        needed = 20 + len(self.capabilities) if self.capabilities else 20
        flags = self.flags | (1 << 7 if self.capabilities else 0)
        whole = bool(self.capabilities) and room >= needed
        struct.pack_into("=IIIII", argument, 0, needed, flags, 9, 5, whole and self.first)
        if whole:
            argument[20:needed] = self.capabilities

    def region(self, argument: bytearray) -> None:
        size, _, index, _, _, _ = struct.unpack("=IIIIQQ", argument)
        assert size == 32
        if index == 6:
            raise OSError(22, "Invalid argument")
        sizes = {0: 1 << 20, 2: 1 << 34, 4: 32, 7: len(self.config)}
        struct.pack_into("=QQ", argument, 16, sizes.get(index, 0), index << 40)

    def feature(self, argument: bytearray) -> None:
        size, feature, _ = struct.unpack("=IIQ", argument)
        answers = {1 << 16 | 1: self.migration, 1 << 16 | 9: self.data_size}
        assert size == 16 and feature in answers
        self.asked.append(feature & 0xFFFF)
        answer = answers[feature]
        if answer is None:
            raise OSError(25, "Inappropriate ioctl for device")
        struct.pack_into("=Q", argument, 8, answer)

    def pread(self, device: int, size: int, offset: int) -> bytes:
        assert offset == 7 << 40
        return self.config[:size]


@pytest.fixture
def cdev(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeKernel], FakeHost]:
    def install(kernel: FakeKernel) -> FakeHost:
        device = host.add(NAME, 26)
        (device / "vfio-dev/vfio3").mkdir(parents=True)
        (host.root / "dev/vfio/devices").mkdir(parents=True)
        (host.root / "dev/vfio/devices/vfio3").touch()
        (host.root / "dev/iommu").touch()
        monkeypatch.setattr("fcntl.ioctl", kernel.ioctl)
        monkeypatch.setattr("os.pread", kernel.pread)
        return host

    return install


def open_files() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def test_free_device_through_iommufd(cdev: Callable[[FakeKernel], FakeHost]) -> None:
    config = bytearray(CONFIG)
    config[0x18], config[0x20] = 0x0C, 0x01
    kernel = FakeKernel(bytes(config))
    root = str(cdev(kernel).root)
    before = open_files()
    device = read_free(NAME, root)
    assert open_files() == before
    assert (kernel.bound[:2], kernel.bound[2] > 2) == ((16, 0), True)
    assert device.state.config == bytes(config)
    assert [tuple(bar) for bar in device.state.bars] == [
        (0, 1 << 20, "mem32", False),
        (2, 1 << 34, "mem64", True),
        (4, 32, "io", False),
    ]
    assert device.migration == ("stop-copy", "p2p", "pre-copy")
    assert (device.state.evidence, device.state.origin) == ("vfio", f"VFIO, {NAME}")


def capability(number: int, following: int, *values: int) -> bytes:
    return struct.pack(f"=HHI{len(values)}I", number, 1, following, *values)


ZPCI = capability(1, 36, 7, 8)
ATOMICS = (
    (b"", 0),
    (capability(5, 0, 7, 0), 7),
    (capability(5, 0, 3, 0), 3),
    (capability(5, 0, 0x13, 0), 3),  # widths of a later standard are left out
    (ZPCI + capability(5, 0, 1, 0), 1),
    (ZPCI, 0),
    (capability(1, 20, 0, 0), 0),  # a loop
    (capability(1, 4000, 0, 0), 0),  # out of what there is
    (capability(5, 0, 7), 0),  # cut short
)


@pytest.mark.parametrize(("capabilities", "widths"), ATOMICS)
def test_atomic_ops(
    capabilities: bytes, widths: int, cdev: Callable[[FakeKernel], FakeHost]
) -> None:
    kernel = FakeKernel()
    kernel.capabilities = capabilities
    assert read_free(NAME, str(cdev(kernel).root)).state.atomics == widths


@pytest.mark.parametrize("widths", [0, 1, 3, 7])
def test_atomic_ops_of_the_shim(host: FakeHost, library: str, widths: int) -> None:
    device = host.add(NAME, 26)
    (host.shim / NAME / "atomics").write_text(str(widths))
    # In place of the driver's flags, which CHILD prints.
    prologue = FAKE_SYSFS.format(str(device)) + (
        "from vfio_preflight.host import vfio_api\n"
        "vfio.read_device = lambda *args, **named: (\n"
        "    lambda seen: seen._replace(migration=seen.state.atomics)\n"
        ")(vfio_api.read_device(*args, **named))\n"
    )
    answer = child(host, library, "/", NAME, prologue=prologue)
    assert isinstance(answer, list)
    assert answer[-1] == widths


def test_driver_that_cannot_migrate(cdev: Callable[[FakeKernel], FakeHost]) -> None:
    device = read_free(NAME, str(cdev(FakeKernel(migration=None)).root))
    assert (device.migration, device.offers) == (None, "none")


@pytest.mark.parametrize(
    ("flags", "offers"), [(7, "stop-copy p2p pre-copy"), (1, "stop-copy"), (0, "none"), (6, "none")]
)
def test_what_qemu_can_do_with_what_the_driver_offers(
    flags: int, offers: str, cdev: Callable[[FakeKernel], FakeHost]
) -> None:
    """QEMU wants VFIO_MIGRATION_STOP_COPY, or it takes the device for one that cannot migrate."""
    assert read_free(NAME, str(cdev(FakeKernel(migration=flags)).root)).offers == offers


def test_device_that_is_not_pci(cdev: Callable[[FakeKernel], FakeHost]) -> None:
    with pytest.raises(VfioError, match="not as a PCI device"):
        read_free(NAME, str(cdev(FakeKernel(flags=4)).root))


def test_device_in_use(
    cdev: Callable[[FakeKernel], FakeHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(cdev(FakeKernel()).root)

    def busy(*_arguments: object) -> int:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr("fcntl.ioctl", busy)
    before = open_files()
    with pytest.raises(NotFreeError, match="it is in use"):
        read_free(NAME, root)
    assert open_files() == before


def test_device_that_is_not_ours_to_open(
    cdev: Callable[[FakeKernel], FakeHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(cdev(FakeKernel()).root)

    def refuse(*_arguments: object) -> int:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr("fcntl.ioctl", refuse)
    with pytest.raises(VfioError, match="needs root, and no vf-token") as caught:
        read_free(NAME, root)
    assert not isinstance(caught.value, NotFreeError)


# --- which descriptor is the device's ---------------------------------------------------------

ANONYMOUS = (descriptors.ANONYMOUS, "")
PID = 4242


def named(name: str) -> tuple[str, str]:
    return descriptors.ANONYMOUS, f"vfio-device-syspath: /sys/devices/pci0000:06/{name}\n"


def never(*_: object) -> None:
    raise AssertionError("this must not be read")


def find(host: FakeHost, files: dict[int, tuple[str, str]]) -> int | None:
    host.add_process(PID, files)
    return descriptors.descriptor_of(str(host.root / SYSPATH), PID, str(host.root))


def test_fdinfo_names_the_device(host: FakeHost) -> None:
    host.add(NAME, 26)
    other = named("0000:06:00.5")
    assert find(host, {3: ("/dev/null", ""), 20: other, 21: named(NAME)}) == 21
    assert find(host, {20: other}) is None
    assert find(host, {20: other, 5: ("/dev/vfio/26", "")}) is None
    assert find(host, {20: named(f"{NAME}0")}) is None


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\r", b"\xe2\x80\xa8"])
def test_names_in_fdinfo_are_any_bytes(host: FakeHost, name: bytes) -> None:
    """A process names its dma-bufs as it likes: no line begins within such a name."""
    host.add(NAME, 26)
    host.add_process(PID, {20: ("/dmabuf:", ""), 21: named(NAME)})
    line = named(NAME)[1].encode()
    (host.root / f"proc/{PID}/fdinfo/20").write_bytes(b"name:\t" + name + line)
    assert descriptors.descriptor_of(str(host.root / SYSPATH), PID, str(host.root)) == 21


def test_only_device_of_the_only_group(host: FakeHost) -> None:
    host.add(NAME, 26)
    group, container = ("/dev/vfio/26", ""), ("/dev/vfio/vfio", "")
    assert find(host, {3: container, 4: group, 9: ANONYMOUS}) == 9
    assert find(host, {3: container, 4: ("/dev/vfio/27", ""), 9: ANONYMOUS}) is None
    assert find(host, {3: container, 4: group, 5: ("/dev/vfio/27", ""), 9: ANONYMOUS}) is None
    assert find(host, {3: container, 4: group, 8: ANONYMOUS, 9: ANONYMOUS}) is None
    assert find(host, {3: container, 4: group}) is None
    assert find(host, {3: container, 9: ANONYMOUS}) is None
    host.add("0000:06:00.5", 26)
    assert find(host, {3: container, 4: group, 9: ANONYMOUS}) is None


def test_number_of_the_character_device(host: FakeHost) -> None:
    cdev = host.add(NAME, 26) / "vfio-dev/vfio3"
    cdev.mkdir(parents=True)
    (cdev / "dev").write_text("1:7\n")  # /dev/full stands in
    assert find(host, {4: ("/dev/null", ""), 8: ("/dev/full", "")}) == 8
    assert find(host, {4: ("/dev/null", ""), 8: ("/dev/zero", "")}) is None


def test_device_that_cannot_be_told_is_not_read(host: FakeHost) -> None:
    host.add(NAME, 26)
    host.add_process(PID, {8: ANONYMOUS, 9: ANONYMOUS})
    with pytest.raises(VfioError, match="neither the device nor its IOMMU group"):
        read_in_use(NAME, PID, str(host.root))


# --- through the group ------------------------------------------------------------------------


class GroupKernel(FakeKernel):
    """Gives the device by its group's descriptor, too."""

    def __init__(self, config: bytes = CONFIG) -> None:
        super().__init__(config)
        self.named: list[bytes] = []

    def ioctl(self, device: int, request: int, argument: bytearray) -> int:
        if request != vfio_api.VFIO_GROUP_GET_DEVICE_FD:
            return super().ioctl(device, request, argument)
        self.named.append(bytes(argument))
        return os.open("/dev/null", os.O_RDONLY)


@pytest.fixture
def grouped(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> Callable[[GroupKernel], FakeHost]:
    """A QEMU with two devices, in a group each, of which nothing says which descriptor is whose."""

    def install(kernel: GroupKernel) -> FakeHost:
        host.add(NAME, 26)
        files = {4: ("/dev/vfio/25", ""), 5: ("/dev/vfio/26", ""), 8: ANONYMOUS, 9: ANONYMOUS}
        host.add_process(PID, files)
        monkeypatch.setattr("fcntl.ioctl", kernel.ioctl)
        monkeypatch.setattr("os.pread", kernel.pread)
        monkeypatch.setattr(vfio, "duplicate", duplicate)
        return host

    def duplicate(pid: int, number: int) -> int:
        assert (pid, number) == (PID, 5)
        return os.open("/dev/null", os.O_RDONLY)

    return install


def test_device_through_the_group(grouped: Callable[[GroupKernel], FakeHost]) -> None:
    kernel = GroupKernel()
    kernel.data_size = 1 << 20
    root = str(grouped(kernel).root)
    before = open_files()
    device = read_in_use(NAME, PID, root)
    assert open_files() == before
    assert kernel.named == [NAME.encode() + b"\0"]
    assert (device.state.config, device.state.evidence) == (CONFIG, "vfio")
    assert (device.offers, device.data_size) == ("stop-copy p2p pre-copy", 1 << 20)


def test_driver_is_not_asked_while_the_device_migrates(
    grouped: Callable[[GroupKernel], FakeHost],
) -> None:
    kernel = GroupKernel()
    device = read_in_use(NAME, PID, str(grouped(kernel).root), migration=False)
    assert kernel.asked == []
    assert (device.migration, device.offers, device.data_size) == (None, "", None)


def test_device_with_other_ids_than_sysfs_has(grouped: Callable[[GroupKernel], FakeHost]) -> None:
    host = grouped(GroupKernel())
    home = host.root / SYSPATH
    (home / "vendor").write_text("0x10de\n")
    (home / "device").write_text("0x1eb8\n")
    assert read_in_use(NAME, PID, str(host.root)).state.config == CONFIG
    (home / "device").write_text("0x2236\n")
    with pytest.raises(VfioError, match="10de:1eb8, where sysfs has 10de:2236"):
        read_in_use(NAME, PID, str(host.root))


def test_group_that_is_closed_meanwhile(
    grouped: Callable[[GroupKernel], FakeHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(grouped(GroupKernel()).root)
    answers = iter([5, None])
    monkeypatch.setattr(vfio, "group_of", lambda *_: next(answers))
    monkeypatch.setattr(vfio, "read_device", never)
    with pytest.raises(VfioError, match="closed the group"):
        read_in_use(NAME, PID, root)


@pytest.mark.parametrize(
    ("release", "may"),
    [
        ("6.1.0-40-amd64", True),
        ("5.15.0-91-generic", True),
        ("5.14.0-503.11.1.el9_5.x86_64", True),
        ("5.14.0-1-amd64", False),
        ("5.10.0-33-amd64", False),
        ("4.18.0-553.el8_10.x86_64", False),
        ("", False),
    ],
)
def test_mediated_device_is_opened_again_where_the_core_counts(
    release: str, may: bool, host: FakeHost
) -> None:
    """``vfio_df_open`` since Linux 5.15; a PCI device's driver has ever counted."""
    device = host.add(NAME, 26)
    version = host.root / "proc/sys/kernel/osrelease"
    version.parent.mkdir(parents=True)
    version.write_text(f"{release}\n")
    assert descriptors.may_open_again(str(device), str(host.root))
    (device / "mdev_type").mkdir()
    assert descriptors.may_open_again(str(device), str(host.root)) == may


def test_region_of_any_size_is_what_qemu_makes_of_it() -> None:
    whole = bytes(range(256)) * 16
    assert seen_by_qemu(whole + b"x") == whole
    assert seen_by_qemu(whole[:256]) == whole[:256]
    # Measured: the stream of such a device has 4096 bytes (tests/vm/scripts/evidence.py).
    for size in (255, 257, 4000):
        assert seen_by_qemu(whole[:size]) == whole[:size] + bytes(4096 - size)


def test_device_that_is_closed_and_another_opened_meanwhile(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number may be another file's by the time it is duplicated: then nothing is read of it."""
    host.add(NAME, 26)
    host.add_process(PID, {})
    answers = iter([8, 9])
    monkeypatch.setattr(vfio, "descriptor_of", lambda *_: next(answers))
    monkeypatch.setattr(vfio, "duplicate", lambda *_: os.open("/dev/null", os.O_RDONLY))
    monkeypatch.setattr(vfio, "read_device", never)
    with pytest.raises(VfioError, match="closed the device"):
        read_in_use(NAME, PID, str(host.root))


def test_process_that_is_gone(host: FakeHost) -> None:
    host.add(NAME, 26)
    with pytest.raises(VfioError, match="is gone"):
        read_in_use(NAME, PID, str(host.root))


def test_duplicate_of_our_own() -> None:
    read, write = os.pipe()
    try:
        copy = descriptors.duplicate(os.getpid(), write)
    except PermissionError:
        pytest.skip("no right to duplicate descriptors")
    try:
        os.write(copy, b"x")
        assert os.read(read, 1) == b"x"
        assert not os.get_inheritable(copy)
    finally:
        for descriptor in (read, write, copy):
            os.close(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        descriptors.duplicate(os.getpid(), 999)


@contextlib.contextmanager
def running_qemu(host: FakeHost, library: str) -> Iterator[int]:
    """A QEMU that uses the device, by the number of its process."""
    if not os.path.exists(QEMU):
        pytest.skip("no QEMU")
    options = ["-M", "q35", "-nodefaults", "-display", "none", "-S", "-net", "none"]
    device = f"vfio-pci,sysfsdev={host.shim / NAME}"
    qemu = subprocess.Popen(
        [QEMU, *options, "-m", "16", "-device", device, "-qmp", "stdio"],
        env={"LD_PRELOAD": library, "FAKEVFIO_DIR": str(host.shim)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert qemu.stdin is not None and qemu.stdout is not None
        qemu.stdin.write(b'{"execute": "qmp_capabilities"}\n')
        qemu.stdin.flush()
        assert b"QMP" in qemu.stdout.readline()
        assert b"return" in qemu.stdout.readline()  # and so its devices are there
        yield qemu.pid
    finally:
        qemu.kill()
        qemu.communicate()


def test_device_of_a_running_qemu(host: FakeHost, library: str) -> None:
    """QEMU's descriptor, which is the shim's, is made out by a made-up fdinfo; all else is real."""
    host.add(NAME, 26)
    with running_qemu(host, library) as pid:
        links = {n: os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")}
        (number,) = [int(n) for n, link in links.items() if "fakevfio-device" in link]
        host.add_process(pid, {number: named(NAME)})
        (host.shim / NAME / "config").write_bytes(bytes(256))  # not opened anew, so not seen
        with ends():
            answer = child(host, library, str(host.root), NAME, str(pid))
    bars = [[0, 0x4000, "mem32", False], [2, 32, "mem32", False]]
    assert answer == [CONFIG.hex(), bars, "vfio", ["stop-copy", "p2p"]]


def test_qemu_under_the_shim_is_not_mistaken(host: FakeHost, library: str) -> None:
    """Its descriptors are of memory, and nothing tells for certain what they are."""
    host.add(NAME, 26)
    with running_qemu(host, library) as pid:
        device = str(host.root / SYSPATH)
        (host.root / "proc").symlink_to("/proc")
        assert descriptors.descriptor_of(device, pid, str(host.root)) is None
