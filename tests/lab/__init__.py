"""The Lab: hosts with VFIO devices that do not exist, for real libvirt and unmodified QEMU.

Each host is a private libvirtd in namespaces of its own, on this machine. Its devices are faked
by the project's own ``fakevfio.c``; its guests run under TCG. Needs root, libvirt, QEMU 9.1 or
newer and a C compiler (``tests/setup-debian`` installs them)::

    with Lab(tmp_path) as lab:
        for host in lab.a, lab.b:
            host.add_device(FakeDevice("0000:06:00.4", "vf", make_config()))
        lab.a.start_guest(guest_xml("g1", devices=[hostdev_pci("0000:06:00.4")]))
        assert lab.migrate("g1", lab.a, lab.b).returncode == 0
"""

from .configs import make_config
from .devices import FakeDevice
from .guests import (
    as_json,
    guest_xml,
    hostdev_mdev,
    hostdev_pci,
    interface_hostdev,
    vfio_commandline,
)
from .host import Host, LabError
from .lab import Lab

__all__ = [
    "FakeDevice",
    "Host",
    "Lab",
    "LabError",
    "as_json",
    "guest_xml",
    "hostdev_mdev",
    "hostdev_pci",
    "interface_hostdev",
    "make_config",
    "vfio_commandline",
]
