"""Whether libvirt has to look for hooks anew before it runs ours.

libvirt looks when its daemon starts, and when that is reloaded: there is a qemu hook if ``qemu``,
or anything in ``qemu.d``, is an executable regular file, links followed (``virHookCheck`` in
src/util/virhook.c, ``virFileIsExecutable``). If there was one, it looks for all of them at every
call; if there was none, it never does. A directory, a README or a hook that is not executable count
for nothing.
"""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress

from ...osutil.light import NamedTuple
from .payload import HOOKS

DAEMONS = (b"libvirtd", b"virtqemud")
# Who a package's script asks to reload a service: the first of these that is there. Debian's asks
# the operator's policy-rc.d beforehand.
SYSTEMD = "/run/systemd/system"
SYSTEMCTL = "/usr/bin/systemctl"
INVOKERS = ("/usr/bin/deb-systemd-invoke", SYSTEMCTL)
SECONDS = 60
# Of the fields of /proc/PID/stat behind the command's name.
START_TIME = 19
# Seconds by which a clock and the kernel's ticks may disagree.
MARGIN = 1.0

# A file of this name says that the daemon, by its instance, was reloaded at the file's time.
RELOADED = "run/vfio-preflight/reloaded-{}"

NOT_NEEDED, UNLESS_DONE, NEEDED = "not-needed", "unless-done", "needed"
RELOAD = "  systemctl reload libvirtd    (or virtqemud)"


class Advice(NamedTuple):
    """Whether a reload is needed, and what to tell the operator."""

    reload: str
    text: str


class Hook(NamedTuple):
    """A hook that libvirt would find; ``since`` is when it became what it is (Unix time)."""

    path: str
    since: float


class Daemon(NamedTuple):
    """A daemon of this host that calls qemu hooks; ``started`` is Unix time, ``instance`` names the
    process among all since the boot."""

    name: str
    pid: int
    started: float
    instance: str


def hooks(root: str) -> list[Hook]:
    """What libvirt takes for a qemu hook."""
    return list(_hooks(os.path.join(root, HOOKS, "qemu")))


def _hooks(path: str) -> Iterator[Hook]:
    directory = f"{path}.d"
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    for each in (path, *(os.path.join(directory, name) for name in names)):
        try:
            info, link = os.stat(each), os.lstat(each)
        except OSError:
            continue
        if stat.S_ISREG(info.st_mode) and info.st_mode & 0o111:
            # ctime: also that of a rename or of "chmod +x".
            yield Hook(each, max(info.st_ctime, link.st_ctime))


def advice(root: str, found: list[Hook], staged: bool) -> Advice:
    """What is to be done, by the hooks ``found`` before ours was put in place.

    ``staged``: below ``root`` no daemon runs, so that its files alone say something.
    """
    started = [] if staged else [daemon.started for daemon in daemons(root)]
    if not staged and not started:
        return Advice(NOT_NEEDED, "no libvirt daemon is running: it finds the hook when it starts")
    if not found:
        return Advice(
            NEEDED,
            "This is this host's first qemu hook, and libvirt looks for hooks when it starts."
            f" Run\n{RELOAD}",
        )
    first = min(found, key=lambda hook: hook.since)
    if started and first.since + MARGIN < min(started):
        text = f"libvirt found a qemu hook when it started ({first.path}): no reload needed"
        return Advice(NOT_NEEDED, text)
    return Advice(
        UNLESS_DONE,
        f"There was a qemu hook before, {first.path}.\n"
        f"Unless libvirt was reloaded or restarted since that is there, run\n{RELOAD}",
    )


def carry_out(needed: Advice, root: str) -> str:
    """Have systemd reload libvirt where that is needed; what became of it, for the operator.

    In ``root`` it is noted.

    For a package's scripts: on hundreds of hosts nobody reads that a command is still to be run.
    """
    if needed.reload == NOT_NEEDED:
        return needed.text
    units = [unit for unit in map(_unit, DAEMONS) if _is_active(unit)]
    invoker = next((path for path in INVOKERS if os.access(path, os.X_OK)), "")
    # Something that is printed is why nothing was done.
    if not units or any(_run(invoker, "reload", unit) for unit in units):
        return needed.text
    _note(root)
    return f"reloaded {' and '.join(units)}: libvirt looks for hooks then, and has found this one"


def _note(root: str) -> None:
    """Note that the daemons were reloaded: systemd keeps the time of that to the second only, which
    may be the second in which the hook came."""
    for daemon in daemons(root):
        path = os.path.join(root, RELOADED.format(daemon.instance))
        with suppress(OSError):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with open(path, "w"):
                pass


def _unit(daemon: bytes) -> str:
    return f"{daemon.decode()}.service"


def _is_active(unit: str) -> bool:
    return os.path.isdir(SYSTEMD) and not _run(SYSTEMCTL, "is-active", "--quiet", unit)


def _run(*command: str) -> str:
    """Run a command; what it printed, or its status if that is not zero."""
    try:
        done = subprocess.run(  # noqa: S603 - constant words
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    printed = done.stdout.decode("utf-8", "replace").strip()
    return printed or (f"exit status {done.returncode}" if done.returncode else "")


def daemons(root: str) -> Iterator[Daemon]:
    """Each of this host's daemons that call qemu hooks."""
    for pid, name, ticks in processes(root):
        if name in DAEMONS:
            yield Daemon(name.decode("ascii"), pid, begun(ticks), f"{pid}-{ticks}")


def begun(ticks: int) -> float:
    """Unix time of what began so many of the kernel's ticks after the boot."""
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age


def processes(root: str) -> Iterator[tuple[int, bytes, int]]:
    """PID, name and start (ticks after the boot) of each process of root's on this host.

    A user's own daemon runs no system hooks; a container's runs its own.
    """
    proc, etc = os.path.join(root, "proc"), os.path.join(root, "etc")
    for pid in os.listdir(proc) if os.path.isdir(proc) else ():
        if not pid.isdecimal():
            continue
        home = os.path.join(proc, pid)
        try:
            with open(os.path.join(home, "stat"), "rb") as file:
                name, _, fields = file.read().partition(b" (")[2].rpartition(b") ")
            if os.stat(home).st_uid != 0 or not os.path.samefile(f"{home}/root/etc", etc):
                continue
            ticks = int(fields.split()[START_TIME])
        # It may have ended meanwhile.
        except (OSError, ValueError, IndexError):
            continue
        yield int(pid), name, ticks
