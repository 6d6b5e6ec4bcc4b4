"""Devices that sysfs does not show: what their state is taken from, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.configs import make_config
from unit.host.hosts import MDEV, UUID, VGPU, link, make_mdev, make_vgpu, write
from unit.makers import HOST, make_device, make_state
from vfio_preflight.guest.domain import GuestDevice
from vfio_preflight.guest.traits import Traits
from vfio_preflight.host import traits as host_traits
from vfio_preflight.host.catalogue import Entry, add, name_of
from vfio_preflight.host.sources.request import Request, Sent
from vfio_preflight.host.states import second_opinion, state_of
from vfio_preflight.host.sysfs import shows_config
from vfio_preflight.pci.state import UNKNOWN, ConfigState, Missing
from vfio_preflight.qemu.model.equivalence import equivalent_to_qemu

STATES = "/var/lib/vfio-preflight/states"
CATALOGUE = "/var/lib/vfio-preflight/catalogue"
SEEN = make_state(make_config(device=0x1E31), evidence="vfio")
WORD = make_config(device=0x1E32)
SENT = Sent(make_state(evidence="stream"), MDEV)
MDEV_DEVICE = make_device(kind="mdev", host=UUID)


def know(root: Path, *seen: ConfigState, traits: Traits = MDEV) -> None:
    entry = Entry(traits, seen, "b", "2026-11-23T12:00:00Z")
    add(str(root / CATALOGUE[1:]), entry, equivalent_to_qemu)


def put_file(root: Path, name: str) -> None:
    (root / STATES[1:]).mkdir(parents=True)
    (root / STATES[1:] / name).write_bytes(WORD)


def taken(
    root: Path, device: GuestDevice = MDEV_DEVICE, sent: Sent | None = SENT
) -> ConfigState | Missing:
    return state_of(device, "destination", asked(root, sent=sent))


def asked(
    root: Path, name: str = "", catalogue: str = CATALOGUE, sent: Sent | None = None
) -> Request:
    return Request(name, str(root), STATES, catalogue, sent=sent)


def evidence(root: Path, device: GuestDevice = MDEV_DEVICE) -> str:
    state = taken(root, device)
    assert isinstance(state, ConfigState), state
    return state.evidence


def reason(root: Path, device: GuestDevice = MDEV_DEVICE, sent: Sent | None = SENT) -> str:
    state = taken(root, device, sent)
    assert isinstance(state, Missing) and state.kind == UNKNOWN
    return state.reason


def test_precedence(tmp_path: Path) -> None:
    make_mdev(tmp_path)
    assert evidence(tmp_path) == "inferred"
    know(tmp_path, SEEN)
    assert evidence(tmp_path) == "catalogue"
    put_file(tmp_path, "nvidia-63.bin")
    assert evidence(tmp_path) == "file"


def test_catalogue_says_where_it_has_it_from(tmp_path: Path) -> None:
    make_mdev(tmp_path)
    know(tmp_path, SEEN)
    state = taken(tmp_path)
    assert isinstance(state, ConfigState)
    assert (state.config, state.bars) == (SEEN.config, SEEN.bars)
    assert state.origin == (
        "vfio evidence of 2026-11-23T12:00:00Z on b for"
        " 10de 1e30 10de:129e nvidia-63 nvidia 550.54.16"
    )


def test_catalogue_that_knows_two_predicts_nothing(tmp_path: Path) -> None:
    make_mdev(tmp_path)
    know(tmp_path, SEEN, make_state(evidence="vfio"))
    assert "has 2 different states for 10de 1e30" in reason(tmp_path)


def test_catalogue_of_another_driver_is_not_used(tmp_path: Path) -> None:
    make_mdev(tmp_path, version="550.90.05")
    know(tmp_path, SEEN)
    why = reason(tmp_path)
    assert why.startswith(f"the destination's device: mediated device {UUID} (nvidia-63) shows no")
    assert "driver-version is 550.54.16 at the source and 550.90.05 here: likely to differ" in why


def test_without_a_record_to_infer_from(tmp_path: Path) -> None:
    make_mdev(tmp_path)
    assert reason(tmp_path, sent=None).endswith("shows no configuration space in sysfs")


def test_catalogue_is_not_asked_unless_told_to(tmp_path: Path) -> None:
    make_mdev(tmp_path)
    know(tmp_path, SEEN)
    assert isinstance(state_of(MDEV_DEVICE, "source", asked(tmp_path, catalogue="")), Missing)


def test_mdev_that_is_not_there_is_not_inferred(tmp_path: Path) -> None:
    assert f"this host has no mediated device {UUID}" in reason(tmp_path)


def test_damaged_file_is_not_passed_over(tmp_path: Path) -> None:
    make_mdev(tmp_path)
    know(tmp_path, SEEN)
    put_file(tmp_path, f"{UUID}.json")
    (tmp_path / STATES[1:] / f"{UUID}.json").write_text("{")
    assert f"{UUID}.json" in reason(tmp_path)


# --- vGPUs without an mdev -----------------------------------------------------------------------


def test_vgpu_is_not_what_sysfs_shows_of_its_vf(tmp_path: Path) -> None:
    make_vgpu(tmp_path)
    assert not shows_config(HOST, str(tmp_path))
    assert f"the vGPU on VF {HOST} (nvidia-1155) shows no" in reason(tmp_path, make_device())
    know(tmp_path, SEEN, traits=VGPU)
    assert evidence(tmp_path, make_device()) == "catalogue"


def test_vgpu_by_its_type(tmp_path: Path) -> None:
    make_vgpu(tmp_path)
    put_file(tmp_path, "nvidia-1155")
    assert evidence(tmp_path, make_device()) == "file"


@pytest.mark.parametrize("number", ["0", "", "x"])
def test_vgpu_whose_type_is_not_set(number: str, tmp_path: Path) -> None:
    home = make_vgpu(tmp_path)
    write(home / "nvidia", current_vgpu_type=number)
    assert f"VF {HOST} has no vGPU type set" in reason(tmp_path, make_device())


# --- what costs time -----------------------------------------------------------------------------


def test_plain_device_asks_neither_catalogue_nor_traits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(host_traits, "read_traits", never)
    know(tmp_path, SEEN)
    home = tmp_path / "sys/bus/pci/devices" / HOST
    home.mkdir(parents=True)
    (home / "resource").write_text("")
    (home / "config").write_bytes(make_config())
    assert evidence(tmp_path, make_device()) == "sysfs"


# --- second opinion ------------------------------------------------------------------------------


def test_second_opinion_on_an_operators_word(tmp_path: Path) -> None:
    home = tmp_path / "sys/bus/pci/devices" / HOST
    home.mkdir(parents=True)
    (home / "resource").write_text("")
    (home / "config").write_bytes(make_config())
    word = make_state(WORD, evidence="file")
    other = second_opinion(word, asked(tmp_path, HOST))
    assert other is not None and other.evidence == "sysfs"
    assert second_opinion(SEEN, asked(tmp_path, HOST)) == other
    for weaker in ("catalogue", "inferred", "sysfs"):
        assert second_opinion(make_state(evidence=weaker), asked(tmp_path, HOST)) is None
    link(home / "driver", "../../drivers/virtio-vfio-pci")
    assert second_opinion(word, asked(tmp_path, HOST)) is None
    (home / "driver").unlink()
    (home / "resource").unlink()
    assert second_opinion(word, asked(tmp_path, HOST)) is None


@pytest.mark.parametrize("evidence", ["file", "vfio"])
def test_second_opinion_by_the_catalogue(evidence: str, tmp_path: Path) -> None:
    make_mdev(tmp_path)
    word = make_state(WORD, evidence=evidence)
    assert second_opinion(word, asked(tmp_path, UUID)) is None
    know(tmp_path, SEEN)
    other = second_opinion(word, asked(tmp_path, UUID))
    assert other is not None and (other.config, other.evidence) == (SEEN.config, "catalogue")
    assert second_opinion(word, asked(tmp_path, UUID, "")) is None
    know(tmp_path, make_state(make_config(device=0x1E33), evidence="vfio"))
    assert second_opinion(word, asked(tmp_path, UUID)) is None  # which of the two?
    assert second_opinion(word, asked(tmp_path, "none")) is None


def test_name_of_an_entry_is_readable() -> None:
    assert name_of(VGPU).startswith("10de-26b9-nvidia-1155-nvidia-550.54.16-")
