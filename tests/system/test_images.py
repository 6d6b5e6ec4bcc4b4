"""Save images of every sort that libvirt writes: in them is what QEMU had, by the right device."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import (
    guest_xml,
    hostdev_mdev,
    hostdev_pci,
    interface_hostdev,
    make_config,
    vfio_commandline,
)
from vfio_preflight.guest.domain import GuestDevice, parse_domain, read_guest
from vfio_preflight.guest.topology import read_topology
from vfio_preflight.images.save_image import SaveImage, read_image, read_open_image
from vfio_preflight.pci.state import ConfigState
from vfio_preflight.qemu.model.vfio_pci import Environment, VirtualConfig, realise

from .pair import CONFIG, MDEV, NETWORK_VF, NEW, OLD, OTHER_VSC, PCI, SECOND_VF, VF, VSC_AT, Pair

EXPRESS = make_config(4096)
DEVICES = {VF: EXPRESS, MDEV: OTHER_VSC, NETWORK_VF: CONFIG, PCI: OTHER_VSC}
VSC = slice(0x60, 0x78)
assert VSC.start < VSC_AT < VSC.stop

IMAGE = "/var/lib/libvirt/saved"
FORMATS = ("raw", "gzip", "bzip2", "xz", "zstd", "lzop", "sparse")


@pytest.fixture
def guest(pair: Pair) -> Iterator[str]:
    """A running guest with a device of each sort, which by now present something else."""
    for name, config in DEVICES.items():
        pair.present(pair.a, name, config)
    devices = [hostdev_pci(VF), hostdev_mdev(MDEV), interface_hostdev(NETWORK_VF)]
    xml = guest_xml("images", OLD, devices, commandline=vfio_commandline(PCI))
    yield pair.a.start_guest(xml)
    pair.a.path(IMAGE).unlink(missing_ok=True)


def save(pair: Pair, guest: str, *options: str) -> str:
    """Save the guest, with its devices changed since it started; where the test finds the image."""
    for name in DEVICES:
        pair.present(pair.a, name, make_config(256, device=0x1EB9))
    done = pair.a.virsh("save", guest, IMAGE, *options)
    assert done.returncode == 0, done.stderr
    return str(pair.a.path(IMAGE))


def devices_of(image: SaveImage) -> dict[str, tuple[GuestDevice, ConfigState]]:
    """By host's device: the guest's, and what the image has of it."""
    root = parse_domain(image.xml)
    topology = read_topology(root)
    found = {}
    for device in read_guest(root).devices:
        path = topology.path_of(device)
        assert device.host is not None and path is not None
        state = image.stream.vfio[path]
        assert isinstance(state, ConfigState), state
        found[device.host] = device, state
    assert len(found) == len(image.stream.vfio)
    return found


def assert_as_realised(found: dict[str, tuple[GuestDevice, ConfigState]]) -> None:
    assert set(found) == set(DEVICES)
    for host, (device, state) in found.items():
        presented = DEVICES[host]
        made = realise(ConfigState(presented, (), "file", ""), Environment(device.placement))
        assert isinstance(made, VirtualConfig)
        assert len(state.config) == len(presented)
        assert masked(state.config, made) == masked(made.config, made)
        assert state.config[VSC] == presented[VSC]
        assert state.evidence == "stream"


def masked(config: bytes, made: VirtualConfig) -> bytes:
    """The bits QEMU compares of it."""
    return bytes(byte & mask for byte, mask in zip(config, made.compared()))


@pytest.mark.parametrize("bypass", [(), ("--bypass-cache",)], ids=["cached", "bypass-cache"])
@pytest.mark.parametrize("form", FORMATS)
def test_every_format(pair: Pair, guest: str, form: str, bypass: tuple[str, ...]) -> None:
    if form not in ("raw", "sparse") and shutil.which(form) is None:
        pytest.skip(f"{form} is not installed")
    image = read_image(save(pair, guest, "--image-format", form, *bypass))
    assert (image.format, image.running, image.stream.machine) == (form, True, OLD)
    assert_as_realised(devices_of(image))


def test_sparse_over_several_channels(pair: Pair, guest: str) -> None:
    options = ("--image-format", "sparse", "--parallel-channels", "2")
    assert_as_realised(devices_of(read_image(save(pair, guest, *options))))


def test_managed_save(pair: Pair, guest: str) -> None:
    pair.a.virsh("managedsave", guest, "--paused").check_returncode()
    image = read_image(str(pair.a.var_lib / f"qemu/save/{guest}.save"))
    assert not image.running
    assert_as_realised(devices_of(image))


def test_migration_file_of_qemu(pair: Pair, guest: str) -> None:
    pair.a.path(IMAGE).touch()
    pair.a.path(IMAGE).chmod(0o666)
    xml = pair.a.virsh("dumpxml", guest).stdout.encode()
    monitor = ("qemu-monitor-command", guest, "--hmp")
    pair.a.virsh(*monitor, f'migrate -d "file:{IMAGE}"').check_returncode()
    deadline = time.monotonic() + 10
    while "completed" not in pair.a.virsh(*monitor, "info migrate").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    image = read_image(str(pair.a.path(IMAGE)))
    assert (image.format, image.xml) == ("qemu", b"")
    assert_as_realised(devices_of(image._replace(xml=xml)))


class CountingFile(io.FileIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes | None:  # type: ignore[override]
        data = super().read(-1 if size is None else size)
        self.count += len(data or b"")
        return data


@pytest.mark.parametrize("form", ["raw", "sparse"])
def test_size_of_ram_does_not_count(pair: Pair, form: str) -> None:
    """512 MiB of RAM, filled up with zeros behind the XML of a raw image (nothing looks there)."""
    guest = pair.a.start_guest(guest_xml("large", NEW, [hostdev_pci(VF)], memory=512))
    path = Path(save(pair, guest, "--image-format", form))
    if form == "raw":
        enlarge(path)
    assert path.stat().st_size > 512 << 20
    with CountingFile(str(path)) as file:
        image = read_open_image(file, str(path))
    assert file.count < 1 << 20
    (_, state), *_ = devices_of(image).values()
    assert state.config[VSC] == CONFIG[VSC]
    path.unlink()


def enlarge(path: Path) -> None:
    """Zero pages take no room in a raw image; put 513 MiB between its beginning and its devices."""
    data = path.read_bytes()
    cut = data.index(b"QEVM") + 512
    with path.open("wb") as file:
        file.write(data[:cut])
        file.seek(513 << 20, io.SEEK_CUR)
        file.write(data[cut:])


BUSES = """
<controller type='pci' index='0' model='pcie-root'/>
<controller type='pci' index='1' model='pcie-root-port'/>
<controller type='pci' index='2' model='pcie-to-pci-bridge'/>
<controller type='pci' index='3' model='pcie-expander-bus'><target busNr='200'/></controller>
<controller type='pci' index='4' model='pcie-root-port'>{expander}</controller>
<controller type='pci' index='5' model='pcie-root-port'/>
<controller type='pci' index='6' model='pcie-switch-upstream-port'>{switch}</controller>
<controller type='pci' index='7' model='pcie-switch-downstream-port'>{port}</controller>
<controller type='pci' index='8' model='pci-bridge'>{bridge}</controller>
"""


def at(bus: int, slot: int = 0, function: int = 0) -> str:
    return f"<address type='pci' domain='0' bus='{bus}' slot='{slot}' function='{function}'/>"


def test_device_behind_every_sort_of_bus(pair: Pair) -> None:
    """libvirt's addresses and QEMU's paths of one and the same devices, told apart by device id."""
    places = {VF: at(4), SECOND_VF: at(7), PCI: at(8, 5), MDEV: at(2, 3)}
    for number, name in enumerate(places):
        pair.present(pair.a, name, make_config(device=number))
    buses = BUSES.format(expander=at(3), switch=at(5), port=at(6, 1), bridge=at(2, 1))
    devices = [hostdev_mdev(MDEV, places[MDEV])]
    devices += [hostdev_pci(name, places[name]) for name in places if name != MDEV]
    guest = pair.a.start_guest(guest_xml("buses", NEW, [buses, *devices]))
    found = devices_of(read_image(save(pair, guest)))
    assert {name: state.config[2] for name, (_, state) in found.items()} == {
        name: number for number, name in enumerate(places)
    }


def test_device_behind_expander_of_i440fx(pair: Pair) -> None:
    buses = f"""<controller type='pci' index='0' model='pci-root'/>
    <controller type='pci' index='1' model='pci-expander-bus'><target busNr='100'/></controller>
    <controller type='pci' index='2' model='pci-bridge'>{at(1, 3)}</controller>"""
    devices = [hostdev_pci(VF, at(1, 5)), hostdev_pci(SECOND_VF, at(2, 6)), hostdev_pci(PCI)]
    for number, name in enumerate((VF, SECOND_VF, PCI)):
        pair.present(pair.a, name, make_config(device=number))
    xml = guest_xml("expander", "pc-i440fx-9.1", [buses, *devices])
    found = devices_of(read_image(save(pair, pair.a.start_guest(xml))))
    assert {name: state.config[2] for name, (_, state) in found.items()} == {
        VF: 0,
        SECOND_VF: 1,
        PCI: 2,
    }
