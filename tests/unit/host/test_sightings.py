"""What devices were seen to present, on its way into the catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.host.hosts import MDEV, UUID, VGPU, make_mdev, make_vf, make_vgpu
from unit.makers import HOST, make_state
from vfio_preflight.guest.traits import Traits
from vfio_preflight.host import sightings
from vfio_preflight.host.catalogue import entries
from vfio_preflight.host.sightings import remember_all
from vfio_preflight.pci.state import UNKNOWN, ConfigState, Missing, State
from vfio_preflight.qemu.model.equivalence import equivalent_to_qemu

SEEN = make_state(evidence="vfio")
CATALOGUE = "/catalogue"


def remember(name: str, state: ConfigState, root: Path) -> bool:
    return sightings.remember(name, state, CATALOGUE, equivalent_to_qemu, str(root))


def catalogued(root: Path) -> list[Traits]:
    return [entry.traits for _, entry in entries(str(root / "catalogue"))]


def test_remember(tmp_path: Path) -> None:
    make_mdev(tmp_path)
    make_vgpu(tmp_path)
    assert remember(UUID, SEEN, tmp_path)
    assert remember(HOST, SEEN, tmp_path)
    assert not remember(UUID, SEEN, tmp_path)
    assert sorted(catalogued(tmp_path)) == sorted([MDEV, VGPU])


@pytest.mark.parametrize("evidence", ["stream", "catalogue", "inferred", "sysfs", "file"])
def test_remember_nothing_that_was_not_seen(evidence: str, tmp_path: Path) -> None:
    make_mdev(tmp_path)
    assert not remember(UUID, make_state(evidence=evidence), tmp_path)
    assert catalogued(tmp_path) == []


def test_remember_nothing_that_sysfs_shows(tmp_path: Path) -> None:
    make_vf(tmp_path)
    assert not remember(HOST, SEEN, tmp_path)


def test_remember_nothing_that_is_not_here(tmp_path: Path) -> None:
    assert not remember(UUID, SEEN, tmp_path)
    assert not remember("", SEEN, tmp_path)


def test_remember_all_that_was_seen(tmp_path: Path) -> None:
    make_mdev(tmp_path)
    found: list[tuple[str | None, State]] = [
        (None, SEEN),
        (HOST, Missing(UNKNOWN, "x")),
        (UUID, make_state(evidence="catalogue")),
        (UUID, SEEN),
    ]
    remember_all(found, CATALOGUE, equivalent_to_qemu, str(tmp_path))
    assert catalogued(tmp_path) == [MDEV]


def test_catalogue_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    make_mdev(tmp_path)
    (tmp_path / "catalogue").touch()
    remember_all([(UUID, SEEN)], CATALOGUE, equivalent_to_qemu, str(tmp_path))
