"""One host of the Lab: its namespaces, its libvirtd, its devices."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from lxml import etree

from .devices import FakeDevice, add_to_sysfs, pci_directory, write_config, write_vfio
from .guests import HALT, HALT_CODE

_INIT = Path(__file__).with_name("init.py")
_PRELOAD = "/usr/lib/lab-preload.so"
_PID_FILE = "/run/libvirtd.pid"
_FIRST_GROUP = 7000  # above the IOMMU groups of a real machine
_START_TIMEOUT = 240.0  # seconds; a virtual machine under TCG takes its time
_STOP_TIMEOUT = 2.0

# What a service is started with. The test runner's own would bring, for one, its PATH, and with it
# a Python that no operator's hook would find.
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}

# Namespace files of unshare(1): it stays outside of the PID namespace that it made.
_NAMESPACES = (
    ("mount", "mnt"),
    ("uts", "uts"),
    ("ipc", "ipc"),
    ("net", "net"),
    ("pid", "pid_for_children"),
)

# QEMU runs as the distribution's unprivileged user, as it does for an operator.
QEMU_CONF = """\
cgroup_controllers = []
remember_owner = 0
stdio_handler = "file"
"""

# The Lab has to work in a container or a CI job, as well as in a machine that has AppArmor.
UNCONFINED = 'security_driver = "none"\nnamespaces = []\n'
_CONFINED = 'security_driver = "apparmor"\nnamespaces = [ "mount" ]\n'

LIBVIRTD_CONF = """\
auth_unix_rw = "none"
auth_unix_ro = "none"
host_uuid = "{host_uuid}"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""


class LabError(Exception):
    """The Lab itself does not work: not a result of the test."""


def _root_is_mount_point() -> bool:
    """Whether unshare(1) can make mounts private, which it cannot in a plain chroot."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == "/" for line in lines)


def child_of(process: subprocess.Popen[str]) -> int:
    """The PID, as seen from outside, of what :meth:`Host.popen` started."""
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.01)
    raise LabError("nsenter started nothing")


class Host:
    """A host; made by :class:`lab.Lab`, which also ends it.

    ``directory`` holds its sockets and devices, with a path short enough for AF_UNIX; ``log`` is
    its /var/log/libvirt and outlives it. Every other path of the host is reached from outside
    with :meth:`path`, as long as the host lives. ``preload`` is the library that fakes devices,
    None for real ones. ``release`` is a directory whose ``usr`` lies over the machine's: libvirt
    and QEMU of another release, None for the machine's own. Guests are ``confined`` by AppArmor, or
    by nothing.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        log: Path,
        preload: bytes | None,
        release: Path | None,
        confined: bool = False,
    ) -> None:
        self.name = name
        self.log = log
        self.uuid = str(uuid.uuid4())
        self._directory = directory
        self._groups: dict[str, int] = {}
        self._devices: dict[str, FakeDevice] = {}
        self._libvirtd: subprocess.Popen[bytes] | None = None
        self._init = self._start_init("real" if preload is None else "faked", release)
        try:
            self._configure(preload, confined)
            self.start_libvirtd()
        except BaseException:
            self.end()
            raise

    # --- life ---------------------------------------------------------------------------------

    def _start_init(self, devices: str, release: Path | None) -> subprocess.Popen[bytes]:
        if not _root_is_mount_point():
            raise LabError(
                "/ is not a mount point, so no host can have a private file system: in a chroot,"
                " bind its directory onto itself first (mount --bind DIR DIR; chroot DIR)"
            )
        for name in ("libvirt", "fakevfio", "migration"):
            (self._directory / name).mkdir(parents=True)
        (self._directory / "migration").chmod(0o1777)  # the destination's QEMU listens there
        self.log.mkdir(parents=True, exist_ok=True)
        unshare = ("--mount", "--uts", "--ipc", "--net", "--pid", "--mount-proc")
        arguments = (f"lab-{self.name}", str(self._directory), str(self.log), devices)
        command = (sys.executable, "-I", str(_INIT), *arguments, str(release or ""))
        init = subprocess.Popen(
            ["/usr/bin/unshare", *unshare, "--fork", "--kill-child", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert init.stdout is not None
        if init.stdout.readline() != b"ready\n":
            init.kill()
            raise LabError(f"host {self.name}: no namespaces or no private file system (see above)")
        return init

    def _configure(self, preload: bytes | None, confined: bool) -> None:
        if preload is not None:
            self.path(_PRELOAD).write_bytes(preload)
            # Not LD_PRELOAD, which libvirt would hand on to hooks: they shall see what they always
            # see.
            with self.path("/etc/ld.so.preload").open("a") as file:
                file.write(_PRELOAD + "\n")
        with self.path("/etc/hosts").open("a") as file:
            file.write(f"127.0.0.1 lab-{self.name}\n")
        for directory in ("/etc/libvirt", "/var/lib/libvirt/qemu"):
            shutil.rmtree(self.path(directory), ignore_errors=True)
        self.path("/etc/libvirt/hooks").mkdir(parents=True)
        self.path(HALT).write_bytes(HALT_CODE)
        (self.etc / "qemu.conf").write_text(QEMU_CONF + (_CONFINED if confined else UNCONFINED))
        (self.etc / "libvirtd.conf").write_text(LIBVIRTD_CONF.format(host_uuid=self.uuid))

    def end(self) -> None:
        """Kill everything in the host and wait until it is gone, with its mounts and files."""
        assert self._init.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._init.stdin.close()
        try:
            self._init.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._init.kill()  # and with it, by --kill-child, the namespace
            self._init.wait()
        if self._libvirtd:
            self._libvirtd.wait()
        if self._init.stdout:
            self._init.stdout.close()

    def start_libvirtd(self) -> None:
        """Start libvirtd and wait until it answers."""
        # systemd's library, asked by the node device driver, would see that /sys is an overlay.
        environment = {**_ENVIRONMENT, "SYSTEMD_DEVICE_VERIFY_SYSFS": "0"}
        with (self.log / "libvirtd.stderr").open("ab") as stderr:
            self._libvirtd = subprocess.Popen(
                self._inside(["/usr/sbin/libvirtd", "--pid-file", _PID_FILE]),
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env=environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_TIMEOUT
        while self.virsh("uri").returncode != 0:
            if self._libvirtd.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"host {self.name}: libvirtd does not answer, see {self.log}")
            time.sleep(0.02)

    def stop_libvirtd(self) -> None:
        """End libvirtd as its service does; guests live on."""
        assert self._libvirtd is not None
        self._signal_libvirtd(signal.SIGTERM)
        try:
            self._libvirtd.wait(timeout=_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            # libvirt's node device driver holds a lock that the thread it joins may want: every
            # few times libvirtd gets no further, and would give up after 30 seconds.
            with contextlib.suppress(subprocess.CalledProcessError):  # ended after all
                self._signal_libvirtd(signal.SIGKILL)
            self._libvirtd.wait(timeout=_START_TIMEOUT)

    def reload(self) -> None:
        """Have libvirtd look for hooks anew, as the first one ever installed needs it."""
        self._signal_libvirtd(signal.SIGHUP)
        time.sleep(0.2)  # libvirtd says nothing when it is done

    def _signal_libvirtd(self, number: signal.Signals) -> None:
        command = f"kill -{number.name[3:]} $(cat {_PID_FILE})"
        self.run(["/bin/sh", "-c", command]).check_returncode()

    # --- paths, as seen from outside -----------------------------------------------------------

    def path(self, inside: str | Path) -> Path:
        """Where the host's absolute path ``inside`` is for the test."""
        return Path(f"/proc/{self._init.pid}/root{inside}")

    @property
    def etc(self) -> Path:
        """The host's /etc/libvirt."""
        return self.path("/etc/libvirt")

    @property
    def var_lib(self) -> Path:
        """The host's /var/lib/libvirt."""
        return self.path("/var/lib/libvirt")

    @property
    def hooks(self) -> Path:
        """The host's /etc/libvirt/hooks."""
        return self.path("/etc/libvirt/hooks")

    @property
    def uri(self) -> str:
        """libvirt's URI of this host, good from every host and from outside."""
        return f"qemu+unix:///system?socket={self._directory}/libvirt/libvirt-sock"

    def migration_uri(self, guest: str) -> str:
        """Where the QEMU of an incoming ``guest`` listens."""
        return f"unix://{self._directory}/migration/{guest}"

    def guest_log(self, guest: str) -> str:
        """What the QEMU processes of ``guest`` wrote on this host."""
        path = self.log / "qemu" / f"{guest}.log"
        return path.read_text() if path.exists() else ""

    def qemu_proc(self, guest: str) -> Path:
        """/proc/PID of a running guest's QEMU."""
        pid = self.path(f"/run/libvirt/qemu/{guest}.pid").read_text().strip()
        return self.path(f"/proc/{pid}")

    def qemu_arguments(self, guest: str) -> list[str]:
        """What libvirt started the QEMU of a running guest with."""
        arguments = (self.qemu_proc(guest) / "cmdline").read_bytes().split(b"\0")
        return [argument.decode() for argument in arguments[:-1]]

    # --- commands ------------------------------------------------------------------------------

    def _inside(self, command: Sequence[str | Path]) -> list[str]:
        """``command``, to be run in the host."""
        proc = f"/proc/{self._init.pid}"
        namespaces = [f"--{name}={proc}/ns/{file}" for name, file in _NAMESPACES]
        # The root of a mount namespace is not ours if we run in a chroot.
        namespaces.append(f"--root={proc}/root")
        return ["/usr/bin/nsenter", *namespaces, "--wd=/", "--", *map(str, command)]

    def run(
        self, command: Sequence[str | Path], stdin: str = "", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the host, with text in and out."""
        process = subprocess.Popen(
            self._inside(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_ENVIRONMENT,
            text=True,
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(stdin, timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # nsenter and, in its session, the command
            process.wait()
            raise
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    def popen(
        self, command: Sequence[str | Path], network: Host | None = None
    ) -> subprocess.Popen[str]:
        """Start a command in the host, or in its own file system and the ``network`` of another.

        It is the only child of the process that is returned (:func:`child_of`).
        """
        inside = self._inside(command)
        if network is not None:
            inside = [
                f"--net=/proc/{network._init.pid}/ns/net" if word.startswith("--net=") else word
                for word in inside
            ]
        return subprocess.Popen(
            inside,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_ENVIRONMENT,
            text=True,
            start_new_session=True,
        )

    def processes(self, name: str) -> list[int]:
        """The PIDs, in the host, of its processes whose command has this name."""
        found = self.run(["/usr/bin/pgrep", "-x", name]).stdout
        return [int(pid) for pid in found.split()]

    def virsh(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run virsh in the host."""
        return self.run(["/usr/bin/virsh", "--quiet", *arguments], timeout=timeout)

    def define(self, xml: str) -> str:
        """Define a guest and return its name."""
        result = self.run(["/usr/bin/virsh", "--quiet", "define", "/dev/stdin"], stdin=xml)
        if result.returncode != 0:
            raise LabError(result.stderr)
        return str(etree.fromstring(xml).findtext("name"))

    def start_guest(self, xml: str) -> str:
        """Define a guest, start it and return its name."""
        name = self.define(xml)
        result = self.virsh("start", name, timeout=_START_TIMEOUT)
        if result.returncode != 0:
            raise LabError(result.stderr + self.guest_log(name))
        return name

    def state(self, guest: str) -> str:
        """``running``, ``shut off``, ... or empty if the host does not know the guest."""
        return self.virsh("domstate", guest).stdout.strip()

    # --- devices -------------------------------------------------------------------------------

    def add_device(self, device: FakeDevice) -> None:
        """Add a device, in an IOMMU group of its own."""
        group = _FIRST_GROUP + len(self._groups)
        self._groups[device.name] = group
        self._devices[device.name] = device
        write_vfio(self._directory / "fakevfio", device, group)
        add_to_sysfs(self.path("/sys"), device, group)
        self.path(f"/dev/vfio/{group}").touch()

    def set_config(self, name: str, config: bytes) -> None:
        """Let a device present ``config`` from the next time it is opened, and in sysfs now."""
        write_config(self._directory / "fakevfio" / name / "config", config)
        if self._devices[name].kind != "mdev":
            write_config(pci_directory(self.path("/sys"), name) / "config", config)

    def set_atomics(self, name: str, widths: int) -> None:
        """Let VFIO say that AtomicOps of ``widths`` (``pci.atomics``) reach the root."""
        write_config(self._directory / "fakevfio" / name / "atomics", b"%d" % widths)
