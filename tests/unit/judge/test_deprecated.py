from __future__ import annotations

import pytest

from vfio_preflight.judge.deprecated import TYPES, machine_removed, told


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("pc-q35-5.1", "11.1"),
        ("pc-i440fx-10.0", "16.0"),
        ("virt-9.2", "15.2"),
        ("pc-q35-rhel9.4.0", ""),
        ("pc-q35-noble", ""),
        ("q35", ""),
        ("isapc", ""),
    ],
)
def test_release_that_removes_a_machine_type(name: str, release: str) -> None:
    assert machine_removed(name) == release


def test_in_words() -> None:
    assert told(TYPES["ide-drive"]) == (
        "is deprecated since QEMU 4.2 and gone from 6.0 on; use ide-hd or ide-cd"
    )
    assert told(TYPES["vfio-platform"]).endswith("can be gone from 10.2 on")
