"""Whether mlx5 lets a VF migrate: devlink's port function attribute ``migratable``.

The kernel tells it by netlink alone, so iproute2's ``devlink`` is asked. Without it the driver does
not offer migration (``mlx5vf_cmd_set_migratable``), and QEMU blocks it.

Source: Linux ``Documentation/networking/devlink/devlink-port.rst``, "Function attributes";
devlink-port(8).
"""

from __future__ import annotations

import json
import os
import subprocess

from .sysfs import PCI_DEVICES

PROGRAMS = ("usr/sbin/devlink", "sbin/devlink")
WITHIN = 2.0  # seconds
WORDS = ("enable", "disable")


def migratable(root: str = "/") -> dict[str, str]:
    """``enable`` or ``disable`` by the VF's PCI address, as far as devlink tells."""
    paths = (os.path.join(root, name) for name in PROGRAMS)
    program = next(filter(os.path.isfile, paths), None)
    if program is None:
        return {}
    try:
        done = subprocess.run(  # noqa: S603 - a path of the system's own
            [program, "-j", "port", "show"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=WITHIN,
            check=False,
            env={"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        return parse(done.stdout, root)
    except (OSError, subprocess.SubprocessError):
        return {}


def parse(data: bytes, root: str = "/") -> dict[str, str]:
    """The attribute in the answer to ``devlink -j port show``, by the VF's address.

    A port of flavour ``pcivf`` is named after the function that it belongs to; ``vfnum`` counts
    that one's VFs from 0, as ``virtfn`` links do.
    """
    try:
        ports = json.loads(data)["port"].items()
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}
    found = {}
    for name, port in ports:
        told = port.get("function", {}).get("migratable") if isinstance(port, dict) else None
        if told in WORDS and port.get("flavour") == "pcivf":
            owner = str(name).split("/")[1] if str(name).count("/") == 2 else ""
            link = os.path.join(root, PCI_DEVICES, owner, f"virtfn{port.get('vfnum')}")
            if os.path.islink(link):
                found[os.path.basename(os.readlink(link))] = str(told)
    return found
