"""Which libvirt networks of this host hand out VFs: those with ``<forward mode='hostdev'>``.

Read from libvirt's own files, because a hook must not call libvirt: persistent definitions under
``/etc/libvirt/qemu/networks``, running ones under ``/run/libvirt/network``.
"""

from __future__ import annotations

import os

from ..osutil.regular import read_regular

# The running definition first: it is the one that libvirt uses when the guest starts.
DIRECTORIES = ("run/libvirt/network", "etc/libvirt/qemu/networks")
MAX_FILE = 1 << 20
HOSTDEV = (b"mode='hostdev'", b'mode="hostdev"')


def hands_out_devices(name: str, root: str = "/") -> bool | None:
    """Whether network ``name`` gives guests host devices; None if this host does not have it."""
    # The name becomes part of a path and comes from the guest's XML.
    if not name or "/" in name or name.startswith("."):
        return None
    for directory in DIRECTORIES:
        data = _read(os.path.join(root, directory, f"{name}.xml"))
        if data is not None:
            # A search for bytes is enough: libvirt writes these files itself, always in the same
            # form.
            return any(mark in data for mark in HOSTDEV)
    return None


def any_hands_out_devices(root: str = "/") -> bool:
    """Whether this host has any such network: cheap enough to ask for every guest."""
    for directory in DIRECTORIES:
        path = os.path.join(root, directory)
        try:
            names = os.listdir(path)
        except OSError:
            continue
        files = (_read(os.path.join(path, name)) for name in names if name.endswith(".xml"))
        if any(mark in data for data in files if data for mark in HOSTDEV):
            return True
    return False


def _read(path: str) -> bytes | None:
    try:
        # read_regular: a FIFO planted there must not hang the hook.
        return read_regular(path, MAX_FILE)
    except OSError:
        return None
