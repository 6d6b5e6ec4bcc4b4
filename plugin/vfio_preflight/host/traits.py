"""What determines the bytes that a device presents: its model, type, driver and firmware.

Two devices with the same traits present the same bytes, as far as is known; that is what the
catalogue and every inference rest on. A record keeps the traits of each device it has a state of,
under the names in :data:`NAMES`.

    >>> read_traits("c0ffee00-1111-4222-8333-444455556666")
    Traits(vendor='10de', device='2236', subsystem='10de:1482', type='nvidia-63', driver='nvidia',
           driver_version='550.54.16', firmware='')

Source: Linux ``Documentation/ABI/testing/sysfs-bus-pci``, ``sysfs-bus-vfio-mdev``, ``sysfs-module``
and ``stable/sysfs-class-infiniband``; NVIDIA vGPU user guide (``current_vgpu_type``).
"""

from __future__ import annotations

import os

from ..guest.traits import Traits
from ..osutil.regular import read_start
from ..osutil.text import printable
from .sysfs import MDEV_DEVICES, PCI_DEVICES, mdev_type, vgpu_type

MAX_LENGTH = 128


def read_traits(name: str, root: str = "/") -> Traits:
    """The traits of the PCI device or mediated device ``name``; all empty if it is not here."""
    mediated = len(name) == 36
    link = os.path.join(root, MDEV_DEVICES if mediated else PCI_DEVICES, name)
    if not name or not os.path.isdir(link):
        return Traits()
    # An mdev's own directory has neither IDs nor a firmware: those of its parent device count.
    home = os.path.dirname(os.path.realpath(link)) if mediated else link
    driver, module = _driver(home)
    return Traits(
        vendor=_number(home, "vendor"),
        device=_number(home, "device"),
        subsystem=_subsystem(home),
        type=(mdev_type(name, root) if mediated else vgpu_type(name, root)) or "",
        driver=driver,
        driver_version=_version(module, root) if module else "",
        firmware=_firmware(home),
    )


def _driver(home: str) -> tuple[str, str]:
    """Name of the driver and of its module."""
    driver = _target(os.path.join(home, "driver"))
    # A driver built into the kernel has no module link; its module's name uses underscores.
    return driver, _target(os.path.join(home, "driver", "module")) or driver.replace("-", "_")


def _version(module: str, root: str) -> str:
    directory = os.path.join(root, "sys/module", module)
    version = _text(os.path.join(directory, "version"))
    if version:
        return version
    # srcversion changes with the module's source; few in-tree modules have a version.
    source = _text(os.path.join(directory, "srcversion"))
    if source:
        return f"srcversion:{source}"
    # Built in, the driver changes only with the kernel.
    kernel = _text(os.path.join(root, "proc/sys/kernel/osrelease"))
    return f"linux:{kernel}" if kernel else ""


def _firmware(home: str) -> str:
    """The firmware that an RDMA device reports; a virtual function has its physical function's."""
    # A VF's own infiniband device exists only while a host driver, not vfio-pci, is bound to it.
    for owner in (home, os.path.join(home, "physfn")):
        directory = os.path.join(owner, "infiniband")
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        return next(filter(None, (_text(os.path.join(directory, n, "fw_ver")) for n in names)), "")
    return ""


def _subsystem(home: str) -> str:
    ids = (_number(home, "subsystem_vendor"), _number(home, "subsystem_device"))
    return ":".join(ids) if all(ids) else ""


def _number(home: str, name: str) -> str:
    try:
        # class and the IDs are hexadecimal with 0x in front.
        return f"{int(_text(os.path.join(home, name)), 16) & 0xFFFF:04x}"
    except ValueError:
        return ""


def _text(path: str) -> str:
    try:
        text = read_start(path, MAX_LENGTH).decode("ascii", "replace").strip()
    except OSError:
        return ""
    # The text comes from a driver or firmware, and goes into XML and logs.
    return printable(text.replace("\N{REPLACEMENT CHARACTER}", "?"))


def _target(link: str) -> str:
    try:
        return os.path.basename(os.readlink(link))
    except OSError:
        return ""
