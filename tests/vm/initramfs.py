"""The initramfs of the virtual machine: busybox, ``init``, and the kernel modules that it loads.

The format is the kernel's newc cpio (Documentation/driver-api/early-userspace/buffer-format.rst).
"""

from __future__ import annotations

import gzip
import lzma
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

MODULES = (
    *("virtio_pci", "9pnet_virtio", "9p", "overlay"),  # what the root file system needs
    *("vfio", "vfio_iommu_type1", "vfio_pci", "mdev"),
    *("igb", "igbvf"),
)

INIT = Path(__file__).parent / "init"


class Entry(NamedTuple):
    """A file of the archive."""

    name: str
    mode: int
    data: bytes = b""


def cpio(entries: Iterable[Entry]) -> bytes:
    """A newc archive of ``entries``; all belong to root and have no time."""
    numbered = enumerate([*entries, Entry("TRAILER!!!", 0)], start=1)
    return b"".join(cpio_entry(number, entry) for number, entry in numbered)


def cpio_entry(inode: int, entry: Entry) -> bytes:
    """Header, name and data of one file, each padded to 4 bytes."""
    name = entry.name.encode() + b"\0"
    fields = (inode, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return padded(header + name) + padded(entry.data)


def padded(data: bytes) -> bytes:
    """``data`` with zeros up to a multiple of 4 bytes."""
    return data + bytes(-len(data) % 4)


def directory(name: str) -> Entry:
    """A directory that everybody may read."""
    return Entry(name, stat.S_IFDIR | 0o755)


def program(name: str, path: Path) -> Entry:
    """The program ``path`` under another name."""
    return Entry(name, stat.S_IFREG | 0o755, path.read_bytes())


def text(name: str, value: str) -> Entry:
    """A small file."""
    return Entry(name, stat.S_IFREG | 0o644, value.encode())


# --- kernel modules ---------------------------------------------------------------------------


def module_name(path: str) -> str:
    """``vfio_pci`` for ``kernel/drivers/vfio/pci/vfio-pci.ko.xz``."""
    return Path(path).name.split(".")[0].replace("-", "_")


def dependencies(modules: Path) -> dict[str, list[str]]:
    """Of each module by its name: the files to load, in that order, the last its own.

    modules.dep(5) names after a module what it needs, each before what that one needs itself.
    """
    found = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, needed = line.partition(":")
        found[module_name(path)] = [*reversed(needed.split()), path]
    return found


def files_to_load(modules: Path, names: Iterable[str]) -> list[str]:
    """The files of ``names`` and of what they need, each once. KeyError if a module is missing."""
    known = dependencies(modules)
    built_in = (modules / "modules.builtin").read_text().splitlines()
    wanted = set(names) - set(map(module_name, built_in))
    return list(dict.fromkeys(path for name in names if name in wanted for path in known[name]))


def module_data(path: Path) -> bytes:
    """A module's ELF file, whatever it is compressed with (Debian: nothing or xz)."""
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    return path.read_bytes()


def module_entries(modules: Path, names: Iterable[str]) -> Iterator[Entry]:
    """The modules as /modules/NAME.ko, and their order in /modules/order."""
    paths = files_to_load(modules, names)
    yield directory("modules")
    for path in paths:
        data = module_data(modules / path)
        yield Entry(f"modules/{module_name(path)}.ko", stat.S_IFREG | 0o644, data)
    yield text("modules/order", "".join(f"{module_name(path)}\n" for path in paths))


# --- the archive ------------------------------------------------------------------------------


def make_initramfs(kernel: Path, settings: Mapping[str, str]) -> bytes:
    """The archive for the directory ``kernel`` of tests/vm/kernel.

    ``init`` finds ``settings`` as shell variables. OSError or KeyError if the kernel is incomplete.
    """
    release = (kernel / "release").read_text().strip()
    modules = kernel / "root/lib/modules" / release
    values = {**settings, "KERNEL_DIR": str(kernel.resolve()), "RELEASE": release}
    lines = (f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    entries = [directory(name) for name in ("bin", "dev", "proc", "sys", "lower", "over", "tree")]
    entries += [program("bin/busybox", kernel / "root/bin/busybox"), program("init", INIT)]
    entries += [text("settings", "".join(lines)), *module_entries(modules, MODULES)]
    return cpio(entries)
