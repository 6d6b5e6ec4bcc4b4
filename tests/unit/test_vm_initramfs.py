"""The initramfs of the virtual machine, on a made-up kernel."""

from __future__ import annotations

import lzma
import stat
from pathlib import Path

import pytest

from vm.initramfs import (
    Entry,
    cpio,
    dependencies,
    files_to_load,
    module_entries,
    module_name,
)

MODULES_DEP = """\
kernel/b/vfio-pci.ko.xz: kernel/b/vfio-pci-core.ko.xz kernel/a/vfio.ko.xz
kernel/b/vfio-pci-core.ko.xz: kernel/a/vfio.ko.xz
kernel/a/vfio.ko.xz:
"""


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A directory /lib/modules/RELEASE."""
    (tmp_path / "modules.dep").write_text(MODULES_DEP)
    (tmp_path / "modules.builtin").write_text("kernel/c/overlay.ko\n")
    for line in MODULES_DEP.splitlines():
        path = tmp_path / line.split(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lzma.compress(path.name.encode()))
    return tmp_path


def test_cpio_is_what_the_kernel_reads() -> None:
    archive = cpio([Entry("init", stat.S_IFREG | 0o755, b"12345")])
    assert archive[:6] == b"070701"
    assert archive[14:22] == b"000081ED"  # mode
    assert archive[54:62] == b"00000005"  # size
    assert archive[110:124] == b"init\0\0" + b"12345\0\0\0"
    assert archive[124:130] == b"070701"
    assert archive.endswith(b"TRAILER!!!\0\0\0\0")
    assert len(archive) % 4 == 0


def test_module_name_has_no_hyphens_and_no_suffixes() -> None:
    assert module_name("kernel/drivers/vfio/pci/vfio-pci.ko.xz") == "vfio_pci"


def test_what_a_module_needs_comes_before_it(modules: Path) -> None:
    needed = dependencies(modules)["vfio_pci"]
    assert [module_name(path) for path in needed] == ["vfio", "vfio_pci_core", "vfio_pci"]


def test_each_module_is_loaded_once_and_none_that_is_built_in(modules: Path) -> None:
    paths = files_to_load(modules, ["overlay", "vfio", "vfio_pci"])
    assert [module_name(path) for path in paths] == ["vfio", "vfio_pci_core", "vfio_pci"]


def test_a_missing_module_is_an_error(modules: Path) -> None:
    with pytest.raises(KeyError, match="igb"):
        files_to_load(modules, ["igb"])


def test_modules_are_decompressed(modules: Path) -> None:
    entries = {entry.name: entry.data for entry in module_entries(modules, ["vfio_pci"])}
    assert entries["modules/vfio.ko"] == b"vfio.ko.xz"
    assert entries["modules/order"] == b"vfio\nvfio_pci_core\nvfio_pci\n"
