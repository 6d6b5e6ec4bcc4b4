"""What a restore will load, out of the files that a made-up libvirt daemon has open."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest

from unit.domains import KEY, make_domain
from unit.makers import UUID, VSC_BODY, differing, make_state
from unit.streams import CONFIG, EXPRESS, make_image, make_stream, vfio
from vfio_preflight.gather import saved as module
from vfio_preflight.gather.saved import Restored, guest_of, restored
from vfio_preflight.guest.domain import read_guest
from vfio_preflight.guest.xml import parse_domain
from vfio_preflight.images.save_image import SaveImage, SaveImageError, read_body
from vfio_preflight.images.stream import Stream
from vfio_preflight.osutil import apart

DAEMON = 77
PATH = "0000:00:05.0"  # of make_domain()'s device, in a stream
OTHER = "22222222-3333-4444-5555-666666666666"


def domain(uuid: str = UUID, name: str = "g1", more: str = "") -> bytes:
    named = f"<name>{name}</name><uuid>{uuid}</uuid>{more}"
    return make_domain({KEY: make_state()}).replace(b"<name>g1</name>", named.encode())


def image(xml: bytes, config: bytes = CONFIG, path: str = PATH, form: int = 0) -> bytes:
    stream = make_stream([vfio(config, path)])
    return make_image(gzip.compress(stream) if form else stream, form, xml)


# Seconds that are enough on a busy machine.
SLOW = 30.0


class Host:
    """A host's /proc and directory of managed saves."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.descriptors = root / f"proc/{DAEMON}/fd"
        self.descriptors.mkdir(parents=True)
        self.saves = root / "var/lib/libvirt/qemu/save"
        self.saves.mkdir(parents=True)
        (self.descriptors / "0").symlink_to("/dev/null")
        (self.descriptors / "1").symlink_to("socket:[17]")
        (self.descriptors / "2").symlink_to("/nonexistent")

    def has_open(self, data: bytes, name: str = "g1.img") -> str:
        path = self.root / name
        path.write_bytes(data)
        number = len(list(self.descriptors.iterdir()))
        (self.descriptors / str(number)).symlink_to(path)
        return str(path)

    def manages(self, data: bytes, name: str = "g1") -> None:
        (self.saves / f"{name}.save").write_bytes(data)

    def restored(self, xml: bytes | None = None, seconds: float = 10.0) -> Restored:
        root = parse_domain(xml or domain())
        deadline = time.monotonic() + seconds
        return restored(read_guest(root), root, DAEMON, deadline, str(self.root))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def config_of(found: Restored) -> bytes:
    assert found.problems == ()
    return found.states[KEY].config


def reason_of(found: Restored) -> str:
    assert found.states == {}
    (problem,) = found.problems
    return problem


def test_the_guests_image_among_open_files(host: Host) -> None:
    host.has_open(b"no image", "log")
    host.has_open(image(domain(OTHER, "g2"), EXPRESS), "g2.img")
    path = host.has_open(image(domain()))
    found = host.restored()
    assert config_of(found) == CONFIG
    assert found.states[KEY].origin == f"{path}, section {PATH}/vfio"


def test_only_the_head_of_anothers_image_is_read(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guests that are started with the daemon are all restored at once."""
    for number in range(5):
        xml = domain(OTHER[:-1] + str(number), f"g{number + 2}")
        host.has_open(image(xml, form=1), f"g{number + 2}.img")
    host.has_open(image(domain(), form=1))
    host.manages(image(domain(OTHER, "g1"), form=1))
    read: list[str] = []

    def counted(file: object, name: str, *arguments: object, **options: object) -> Stream:
        read.append(name)
        return read_body(file, name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "read_body", counted)
    monkeypatch.setattr(module, "apart", lambda work, *_: work())
    assert config_of(host.restored()) == CONFIG
    assert read == [str(host.root / "g1.img")]


def test_xml_that_was_edited_for_the_restore(host: Host) -> None:
    """``virsh restore --xml``: what the daemon has open is the image all the same."""
    host.has_open(image(domain()))
    host.manages(image(domain(), EXPRESS))
    assert config_of(host.restored(domain(more="<title>edited</title>"))) == CONFIG


def test_open_image_goes_before_a_managed_save_of_equal_xml(host: Host) -> None:
    host.manages(image(domain(), differing(VSC_BODY).config))
    host.has_open(image(domain()))
    assert config_of(host.restored()) == CONFIG


def test_one_file_that_is_open_twice(host: Host) -> None:
    path = host.has_open(image(domain()))
    (host.descriptors / "9").symlink_to(path)
    assert config_of(host.restored()) == CONFIG


def test_two_open_images_of_the_guest(host: Host) -> None:
    edited = domain(more="<title>edited</title>")
    host.has_open(image(edited, EXPRESS), "older.img")
    path = host.has_open(image(domain()), "newer.img")
    assert config_of(host.restored()) == CONFIG
    reason = reason_of(host.restored(domain(more="<title>other</title>")))
    assert reason.endswith(f"open: {path}, {host.root}/older.img")


def test_managed_save_that_is_not_open(host: Host) -> None:
    host.manages(image(domain()))
    assert config_of(host.restored()) == CONFIG
    reason = reason_of(host.restored(domain(more="<title>edited</title>")))
    assert "g1.save holds other XML" in reason


@pytest.mark.parametrize("data", [b"", image(domain(OTHER)), make_stream([vfio(CONFIG)])])
def test_no_image_of_the_guest(data: bytes, host: Host) -> None:
    host.has_open(data)
    host.manages(data)
    assert "no save image of the guest is open" in reason_of(host.restored())


def test_guest_without_a_usable_name(host: Host) -> None:
    host.manages(image(domain()))
    host.saves.joinpath("x").mkdir()
    assert "is open" in reason_of(host.restored(domain(name="x/../g1")))


def test_daemon_that_is_gone(host: Host) -> None:
    root = parse_domain(domain())
    found = restored(read_guest(root), root, 78, time.monotonic() + 1, str(host.root))
    assert "no save image of the guest is open" in reason_of(found)


def test_image_that_takes_too_long(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "GRACE", SLOW)
    path = host.has_open(image(domain(), form=1))
    host.manages(image(domain()))
    reason = reason_of(host.restored(seconds=-1.0))
    assert reason.startswith(f"{path}: decompressing it (gzip) took too long")


def test_image_that_is_damaged(host: Host) -> None:
    path = host.has_open(image(domain())[:-9])
    assert reason_of(host.restored()).startswith(f"{path}: it does not end")


def test_device_that_the_image_lacks(host: Host) -> None:
    host.has_open(image(domain(), path="0000:00:06.0"))
    assert reason_of(host.restored()) == f"device {KEY}: the save image has no state of this device"


def test_guest_of_a_bare_file() -> None:
    bare = SaveImage(b"", b"", "qemu", True, Stream("", {}, {}, ()))
    with pytest.raises(SaveImageError, match="bare QEMU migration file"):
        guest_of(bare, "file")
