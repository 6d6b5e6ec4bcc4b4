"""The first process of a host: makes its private file system, then reaps what ends in it.

Run by :mod:`lab.host` as process 1 of new mount, PID, UTS, IPC and network namespaces. It lives
as long as its standard input stays open, so a host ends with the test runner, however that ends:
everything in it is killed, its mounts go with the namespace, and its directory is removed.

What a guest or a hook writes stays in the host: /usr, /etc, /var and /sys are overlays whose upper
layers lie on a tmpfs, /run and /dev are new. /tmp and everything else is shared with the machine.
A host with real devices (a virtual machine's, tests/vm) has the machine's /sys and /dev/vfio.
One with another release's programs has these over the machine's /usr.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType

OVERLAYS = ("usr", "etc", "var")
# Fake devices are added to a copy of /sys; real ones are where they are.
FAKED = "faked"
DEVICE_NODES = ("null", "zero", "full", "random", "urandom", "tty")


def mount(*arguments: str) -> None:
    """mount(8), by its path: PATH is the test runner's."""
    subprocess.run(["/usr/bin/mount", *arguments], check=True)


def overlay(name: str, layers: Path, over: str = "") -> None:
    """Put an overlay over ``/name`` that keeps what is written in ``layers``.

    What the directory ``over`` has hides what the machine has at the same path.
    """
    upper, work, merged = (layers / name / part for part in ("upper", "work", "merged"))
    for directory in (upper, work, merged):
        directory.mkdir(parents=True)
    lower = f"{over}:/{name}" if over else f"/{name}"
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    mount("-t", "overlay", "overlay", "-o", options, str(merged))
    mount("--move", str(merged), f"/{name}")


def make_dev(staging: Path, faked: bool) -> None:
    """A /dev without /dev/kvm: guests run under TCG on every machine alike."""
    staging.mkdir()
    mount("-t", "tmpfs", "-o", "mode=755", "dev", str(staging))
    for name in DEVICE_NODES:
        (staging / name).touch()
        mount("--bind", f"/dev/{name}", str(staging / name))
    (staging / "fd").symlink_to("/proc/self/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        (staging / name).symlink_to(f"/proc/self/fd/{number}")
    (staging / "shm").mkdir(mode=0o1777)
    (staging / "vfio").mkdir()
    # For guests' consoles; and libvirt wants it for guests that get a /dev of their own.
    (staging / "pts").mkdir()
    if faked:
        mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666", "devpts", str(staging / "pts"))
        (staging / "ptmx").symlink_to("pts/ptmx")
        # libvirt only asks whether the nodes exist, and QEMU's open() never gets here. A plain
        # file cannot reach hardware if the preloaded library is missing.
        (staging / "vfio" / "vfio").touch()
    else:
        for name in ("vfio", "pts", "shm"):
            mount("--bind", f"/dev/{name}", str(staging / name))
        # libvirt moves all that is mounted there, by the list: nothing may be hidden below.
        for name in ("pts", "shm"):
            subprocess.run(["/usr/bin/umount", "--lazy", f"/dev/{name}"], check=True)
    mount("--move", str(staging), "/dev")


def make_run(directory: Path) -> None:
    """A /run whose libvirt sockets and fake devices can be reached from the other hosts."""
    mount("-t", "tmpfs", "-o", "mode=755", "run", "/run")
    for name in ("libvirt", "fakevfio", "lock"):
        Path("/run", name).mkdir()
    mount("--bind", str(directory / "libvirt"), "/run/libvirt")
    mount("--bind", str(directory / "fakevfio"), "/run/fakevfio")


def make_file_system(directory: Path, log: Path, faked: bool, release: str) -> None:
    layers = directory / "layers"
    layers.mkdir()
    mount("-t", "tmpfs", "-o", "mode=700", "layers", str(layers))
    make_dev(layers / "dev", faked)
    for name in (*OVERLAYS, *(["sys"] if faked else [])):
        overlay(name, layers, f"{release}/usr" if release and name == "usr" else "")
    make_run(directory)
    Path("/var/log/libvirt").mkdir(parents=True, exist_ok=True)
    mount("--bind", str(log), "/var/log/libvirt")


def reap(_signal: int, _frame: FrameType | None) -> None:
    """Collect every ended child: libvirt waits for a guest's process to be gone, not a zombie."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def end(directory: Path) -> None:
    """Kill everything in the host, then remove its directory and, if it is the last, the Lab's."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    subprocess.run(["/usr/bin/umount", "--lazy", str(directory / "layers")], check=False)
    shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(OSError):
        directory.parent.rmdir()


def main() -> None:
    name, directory, log = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    faked, release = sys.argv[4] == FAKED, sys.argv[5]
    socket.sethostname(name)
    make_file_system(directory, log, faked, release)
    signal.signal(signal.SIGCHLD, reap)
    print("ready", flush=True)
    sys.stdin.read()
    end(directory)


if __name__ == "__main__":
    main()
