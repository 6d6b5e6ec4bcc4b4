"""A host of the Lab as the target of a package: what is on it, and what its libvirt does."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from lab import Lab, guest_xml

HOOK = "/etc/libvirt/hooks/qemu.d/50-vfio-preflight"
LIBRARY = "/usr/lib/vfio-preflight"
UNIT = "/usr/lib/systemd/system/vfio-preflight-watch.service"
CONFIGURATION = "/etc/vfio-preflight.conf"
RULE = "/etc/vfio-preflight/vendor-rules.d/nvidia.ini"
BLOCKS = "[policy]\nunknown = block\n"
GUEST = "traveller"
# Its device is on no host, so that what it presents is not known.
DEVICE = """<hostdev mode='subsystem' type='pci' managed='yes'>
  <source><address domain='0x0000' bus='0x77' slot='0x00' function='0x0'/></source>
</hostdev>"""
XML = guest_xml(GUEST, "pc-q35-7.2", devices=[DEVICE])
# What other programs keep of every package, and libvirt of its guests. The directory for profiles
# that are switched off is the package apparmor's: each purge by dh_apparmor's script takes it while
# it is empty.
ELSEWHERE = re.compile(
    r"/var/(lib/dpkg|lib/rpm|log|cache/man|lib/libvirt|cache/libvirt|lib/systemd/deb-systemd)"
    r"|/run/(libvirt|fakevfio|lock|utmp)|/etc/libvirt/(qemu|secrets|storage|nwfilter|init\.js)"
    r"|/usr/lib/sysimage|/etc/apparmor\.d/disable d "
)


class Target:
    """Host b, to which guests of a migrate."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.host = lab, lab.b
        lab.a.define(XML)
        # A machine may have its own.
        state = [f"/var/{place}/vfio-preflight" for place in ("cache", "lib", "log")]
        self.must("rm", "-rf", *state, LIBRARY, "/etc/vfio-preflight", CONFIGURATION)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return self.host.run(command, timeout=120)

    def must(self, *command: str | Path) -> str:
        """Run a command that has to succeed; what it printed."""
        done = self.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def dpkg(self, *words: str | Path) -> str:
        # Nobody answers: a question is an error.
        return self.must("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--no-triggers", *words)

    def shows_metrics(self, directory: str) -> str:
        """Has the file for the node exporter written there; its path."""
        self.must("mkdir", "-p", directory)
        self.write(CONFIGURATION, f"[paths]\n metrics = {directory}  # ours\n")
        self.must("vfio-preflight", "metrics")
        path = f"{directory}/vfio-preflight.prom"
        assert self.exists(path)
        return path

    def read(self, path: str) -> str:
        return self.host.path(path).read_text()

    def write(self, path: str, text: str) -> None:
        self.host.path(path).write_text(text)

    def exists(self, path: str) -> bool:
        return self.run("test", "-e", path, "-o", "-L", path).returncode == 0

    def versions(self) -> set[str]:
        """What is in the directory of versions, the link that is in force with its target."""
        listed = self.must(
            "find", LIBRARY, "-mindepth", "1", "-maxdepth", "1", "-printf", "%f %l\n"
        )
        return set(map(str.strip, listed.splitlines()))

    def files(self) -> set[str]:
        """Every path with its kind and mode, but for what other programs keep."""
        places = ("/usr", "/etc", "/var", "/run")
        words = ("-path", "/var/tmp", "-prune", "-o", "-printf", "%p %y %m %l\n")
        listed = self.run("find", *places, *words).stdout
        return {line for line in listed.splitlines() if not ELSEWHERE.match(line)}

    def arrives(self) -> str:
        """What libvirt here says of a guest that migrates to this host; empty if it lets it in.

        Only the guest's definition moves, for which libvirt runs hooks as for any migration.
        """
        moved = self.lab.a.virsh("migrate", "--offline", "--persistent", GUEST, self.host.uri)
        if moved.returncode == 0:
            self.host.virsh("undefine", GUEST).check_returncode()
        return moved.stderr
