from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.configs import make_config, patched
from unit.host.hosts import make_vgpu
from unit.makers import HOST, make_device, make_state
from unit.patience import ends
from vfio_preflight.host import vfio
from vfio_preflight.host.sources import order
from vfio_preflight.host.sources.file import find_file
from vfio_preflight.host.sources.request import Request
from vfio_preflight.host.states import state_of
from vfio_preflight.host.sysfs import HostError
from vfio_preflight.host.vfio import NotFreeError, VfioDevice, VfioError
from vfio_preflight.pci.formats import to_json
from vfio_preflight.pci.state import NOT_MIGRATABLE, UNKNOWN, ConfigState, Missing, State

STATES = "/var/lib/vfio-preflight/states"
UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"
THEIRS = make_config(device=0x2236)


@pytest.fixture
def states(tmp_path: Path) -> Path:
    directory = tmp_path / STATES[1:]
    directory.mkdir(parents=True)
    return directory


def make_sysfs(root: Path, config: bytes) -> None:
    home = root / "sys/bus/pci/devices" / HOST
    home.mkdir(parents=True)
    (home / "config").write_bytes(config)
    (home / "resource").write_text("")


def make_mdev(root: Path, kind: str = "nvidia-63") -> None:
    home = root / "sys/bus/mdev/devices" / UUID
    home.mkdir(parents=True)
    (home / "mdev_type").symlink_to(f"../mdev_supported_types/{kind}")


def asked(root: Path, name: str = "", opened: tuple[str, ...] = ()) -> Request:
    return Request(name, str(root), STATES, opened=opened)


def pci(root: Path, side: str = "destination") -> State:
    return state_of(make_device(), side, asked(root))


def mdev(root: Path) -> State:
    return state_of(make_device(kind="mdev", host=UUID), "destination", asked(root))


def test_sysfs(tmp_path: Path) -> None:
    make_sysfs(tmp_path, make_config())
    state = pci(tmp_path)
    assert isinstance(state, ConfigState)
    assert (state.config, state.evidence) == (make_config(), "sysfs")


@pytest.mark.parametrize("suffix", ["", ".json"])
def test_operators_file_wins(suffix: str, tmp_path: Path, states: Path) -> None:
    make_sysfs(tmp_path, make_config())
    path = states / f"{HOST}{suffix}"
    path.write_text(to_json(make_state(THEIRS, evidence="file")))
    state = pci(tmp_path)
    assert isinstance(state, ConfigState)
    assert (state.config, state.evidence) == (THEIRS, "file")


def test_dump_of_a_device_does_not_outrank_the_device(tmp_path: Path, states: Path) -> None:
    make_sysfs(tmp_path, make_config())
    (states / f"{HOST}.bin").write_bytes(THEIRS)
    state = pci(tmp_path)
    assert isinstance(state, ConfigState)
    assert (state.config, state.evidence) == (make_config(), "sysfs")
    dump = f"{states}/{HOST}.bin, a dump of the physical device, as sysfs shows"
    assert state.origin.endswith(f"/config; not used: {dump}")


def test_dump_of_a_device_that_is_not_here(tmp_path: Path, states: Path) -> None:
    (states / f"{HOST}.bin").write_bytes(patched(THEIRS, 0x45, 0x81))
    state = pci(tmp_path)
    assert isinstance(state, ConfigState)
    assert (state.config, state.evidence) == (THEIRS, "sysfs")


def test_dump_of_a_vf_below_a_vgpu_is_not_the_vgpu(tmp_path: Path, states: Path) -> None:
    make_vgpu(tmp_path)
    own = b"\xff" * 4 + THEIRS[4:]
    (states / f"{HOST}.bin").write_bytes(own)
    assert isinstance(pci(tmp_path), Missing)
    (states / f"{HOST}.bin").write_bytes(THEIRS)
    state = pci(tmp_path)
    assert isinstance(state, ConfigState) and state.evidence == "file"


def test_operators_file_is_a_word_whatever_it_says_of_itself(tmp_path: Path, states: Path) -> None:
    (states / f"{HOST}.json").write_text(to_json(make_state(THEIRS, evidence="vfio")))
    state = pci(tmp_path)
    assert isinstance(state, ConfigState)
    assert (state.config, state.evidence) == (THEIRS, "file")
    assert state.origin == f"vfio evidence by made up (from {states}/{HOST}.json)"


def test_operators_file_of_text(tmp_path: Path, states: Path) -> None:
    rows = (f"{at:02x}: {THEIRS[at : at + 16].hex(' ')}\n" for at in range(0, 256, 16))
    (states / f"{HOST}.txt").write_text("06:00.4 VGA\n" + "".join(rows))
    state = pci(tmp_path)
    assert isinstance(state, ConfigState) and state.config == THEIRS


@pytest.mark.parametrize("name", [UUID, f"{UUID}.bin", "nvidia-63", "nvidia-63.bin"])
def test_mdev_by_uuid_or_type(name: str, tmp_path: Path, states: Path) -> None:
    make_mdev(tmp_path)
    (states / name).write_bytes(THEIRS)
    state = mdev(tmp_path)
    assert isinstance(state, ConfigState) and state.config == THEIRS


def test_mdev_uuid_goes_before_its_type(tmp_path: Path, states: Path) -> None:
    make_mdev(tmp_path)
    (states / "nvidia-63").write_bytes(make_config())
    (states / f"{UUID}.bin").write_bytes(THEIRS)
    assert find_file(UUID, STATES, str(tmp_path)) == str(states / f"{UUID}.bin")


def test_file_of_another_device_is_not_taken(tmp_path: Path, states: Path) -> None:
    make_mdev(tmp_path, "nvidia-64")
    (states / "nvidia-63").write_bytes(THEIRS)
    assert find_file(UUID, STATES, str(tmp_path)) is None
    assert isinstance(mdev(tmp_path), Missing)


def missing(state: State) -> Missing:
    assert isinstance(state, Missing)
    return state


def test_mdev_shows_nothing_by_itself(tmp_path: Path) -> None:
    make_mdev(tmp_path)
    state = missing(mdev(tmp_path))
    assert state.kind == UNKNOWN
    assert f"{UUID} (nvidia-63) shows no configuration space" in state.reason
    assert state.remedy.endswith(f"into {STATES}/{UUID} (or its mdev type)")


def test_mdev_that_is_not_there(tmp_path: Path) -> None:
    state = missing(mdev(tmp_path))
    assert f"no mediated device {UUID}" in state.reason
    assert state.remedy.startswith("create the mediated device there, or name one that exists by")


@pytest.mark.parametrize("side", ["source", "destination"])
def test_device_that_is_not_there(side: str, tmp_path: Path) -> None:
    state = missing(pci(tmp_path, side))
    assert state.kind == UNKNOWN
    assert state.reason == f"the {side}'s device: this host has no PCI device {HOST}"
    assert state.remedy.startswith(f"name a device that the {side} has, with ")


def test_device_that_libvirt_chooses() -> None:
    state = missing(state_of(make_device(kind="network", host=None), "destination", Request("")))
    assert state.kind == UNKNOWN
    assert "libvirt chooses" in state.reason


@pytest.mark.parametrize("kind", ["pci", "interface", "commandline"])
def test_device_that_the_xml_does_not_name(kind: str) -> None:
    state = missing(state_of(make_device(kind=kind, host=None), "destination", Request("")))
    assert state.reason == "the guest's XML does not say which device of the host it is"


def test_damaged_file_for_a_device_that_is_not_there(tmp_path: Path, states: Path) -> None:
    (states / f"{HOST}.json").write_text("{}")
    assert f"{STATES}/{HOST}" in missing(pci(tmp_path)).remedy


def test_damaged_file_is_not_passed_over(tmp_path: Path, states: Path) -> None:
    """An operator's word that cannot be read is unknown; sysfs may be what it was to correct."""
    make_sysfs(tmp_path, make_config())
    (states / f"{HOST}.json").write_text('{"schema": 1}')
    state = missing(pci(tmp_path))
    assert f"{states}/{HOST}.json: not a config state" in state.reason


@pytest.mark.parametrize("mode", [0o020, 0o002])
@pytest.mark.parametrize("place", ["", HOST])
def test_file_that_others_can_write_is_nobodys_word(
    place: str, mode: int, tmp_path: Path, states: Path
) -> None:
    make_sysfs(tmp_path, make_config())
    (states / HOST).write_bytes(THEIRS)
    (states / place).chmod(0o755 | mode)
    state = missing(pci(tmp_path))
    assert f"{states / place} is writable by users other than root, so it may not" in state.reason


def test_file_that_is_anothers(
    tmp_path: Path, states: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (states / HOST).write_bytes(THEIRS)
    owned = os.stat_result((0o100644, 1, 1, 1, 4242, 0, 256, 0, 0, 0))
    monkeypatch.setattr(os, "lstat", lambda *_args, **_options: owned)
    with pytest.raises(HostError, match="belongs to user 4242, so it may not be the operator's"):
        order.read(asked(tmp_path, HOST))


@pytest.mark.parametrize("link", ["directory", "file", "way", "chain"])
def test_link_to_where_another_user_can_write_is_nobodys_word(
    link: str, tmp_path: Path, states: Path
) -> None:
    """Whoever can change where it leads, or what is there, says what the device presents."""
    make_sysfs(tmp_path, make_config())
    theirs = tmp_path / "home" / "theirs"
    theirs.mkdir(parents=True)
    (theirs / "state").write_text(to_json(make_state(THEIRS, evidence="file")))
    if link == "directory":
        (states / HOST).symlink_to(theirs / "state")
        theirs.chmod(0o777)
    elif link == "file":
        (states / HOST).symlink_to(os.path.relpath(theirs / "state", states))
        (theirs / "state").chmod(0o666)
    elif link == "way":
        (states / HOST).symlink_to(theirs / "state")
        theirs.parent.chmod(0o775)
    else:
        # The file that is read in the end is root's own, but who chooses it?
        (theirs / "link").symlink_to(theirs / "state")
        (states / HOST).symlink_to(theirs / "link")
        os.chown(theirs / "link", 4242, 4242, follow_symlinks=False)
    assert "so it may not be the operator's; chown that to root" in missing(pci(tmp_path)).reason


def test_link_to_what_is_roots_alone_is_followed(tmp_path: Path, states: Path) -> None:
    make_sysfs(tmp_path, make_config())
    (tmp_path / "else").mkdir()
    (tmp_path / "else/state").write_text(to_json(make_state(THEIRS, evidence="file")))
    (tmp_path / "else/link").symlink_to(".././else//state")
    (states / HOST).symlink_to(tmp_path / "else/link")
    state = pci(tmp_path)
    assert isinstance(state, ConfigState) and state.config == THEIRS


def test_fifo_is_not_waited_for(tmp_path: Path, states: Path) -> None:
    """It held the hook for its whole deadline, and the guest was let pass."""
    make_sysfs(tmp_path, make_config())
    os.mkfifo(states / HOST)
    with ends():
        assert "cannot be read: it is not a regular file" in missing(pci(tmp_path)).reason


def test_device_and_endless_file_are_not_read(tmp_path: Path, states: Path) -> None:
    make_sysfs(tmp_path, make_config())
    (states / HOST).symlink_to("/dev/zero")
    with ends():
        assert "so it may not be the operator's" in missing(pci(tmp_path)).reason
    (states / HOST).unlink()
    with (states / HOST).open("wb") as file:
        file.truncate(1 << 40)
    with ends():
        assert "cannot be read: it has over 1048576 bytes" in missing(pci(tmp_path)).reason


def test_file_that_cannot_be_read(tmp_path: Path, states: Path) -> None:
    make_sysfs(tmp_path, make_config())
    (states / HOST).symlink_to("nowhere")
    with pytest.raises(HostError, match="cannot be read"):
        order.read(asked(tmp_path, HOST))


def test_read_state_without_any(tmp_path: Path) -> None:
    for name in (HOST, UUID):
        with pytest.raises(HostError):
            order.read(asked(tmp_path, name))


# --- devices that may be opened ------------------------------------------------------------------

LISTED = ("10de:*", "nvidia-63")


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[object], State]:
    """The state of a device that is listed, where opening it gives a device or an error."""
    make_sysfs(tmp_path, make_config())
    for name, number in (("vendor", "0x10de"), ("device", "0x1eb8")):
        (tmp_path / "sys/bus/pci/devices" / HOST / name).write_text(f"{number}\n")

    def state(outcome: object) -> State:
        def read_free(*_arguments: object) -> VfioDevice:
            if isinstance(outcome, Exception):
                raise outcome
            assert isinstance(outcome, VfioDevice)
            return outcome

        monkeypatch.setattr(vfio, "read_free", read_free)
        return state_of(make_device(), "destination", asked(tmp_path, opened=LISTED))

    return state


def test_device_that_is_opened(listed: Callable[[object], State]) -> None:
    seen = make_state(THEIRS, evidence="vfio")
    assert listed(VfioDevice(seen, ("stop-copy", "p2p"))) == seen


@pytest.mark.parametrize("migration", [None, (), ("p2p", "pre-copy")])
def test_device_that_cannot_migrate(
    migration: tuple[str, ...] | None, listed: Callable[[object], State]
) -> None:
    found = missing(listed(VfioDevice(make_state(evidence="vfio"), migration)))
    assert found.kind == NOT_MIGRATABLE


def test_device_in_use_is_sysfs_without_a_word(
    tmp_path: Path, listed: Callable[[object], State]
) -> None:
    state = listed(NotFreeError("it is in use"))
    assert isinstance(state, ConfigState)
    path = f"{tmp_path}/sys/bus/pci/devices/{HOST}/config"
    assert (state.evidence, state.origin) == ("sysfs", path)


def test_device_that_cannot_be_opened_is_sysfs_with_the_reason(
    tmp_path: Path, listed: Callable[[object], State]
) -> None:
    """The operator listed it, and would not know why its state has lesser evidence."""
    state = listed(VfioError("IOMMU group 7 has others"))
    assert isinstance(state, ConfigState)
    assert state.evidence == "sysfs"
    assert state.origin == (
        f"{tmp_path}/sys/bus/pci/devices/{HOST}/config; could not be opened through VFIO: IOMMU"
        " group 7 has others"
    )


def test_reason_is_told_also_where_there_is_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_mdev(tmp_path)

    def refuse(*_arguments: object) -> VfioDevice:
        raise VfioError("permission denied")

    monkeypatch.setattr(vfio, "read_free", refuse)
    device = make_device(kind="mdev", host=UUID)
    state = missing(state_of(device, "destination", asked(tmp_path, opened=LISTED)))
    assert state.kind == UNKNOWN
    assert "could not be opened through VFIO: permission denied; mediated device" in state.reason
