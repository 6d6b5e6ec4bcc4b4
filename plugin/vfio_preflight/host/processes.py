"""A guest's QEMU on this host: which process it is, and how its devices were set up.

>>> process = find_process("g1", "11111111-2222-3333-4444-555555555555")
>>> process.incoming, process.devices
(False, {'hostdev0': '0000:06:00.4'})

The arguments of the process are the only lasting evidence of how it was started: libvirt's reason
for "running" is overwritten when a guest is paused, and events reach only connected clients.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from ..guest.commandline import parse_device
from ..guest.xml import GuestError
from ..osutil.light import NamedTuple
from ..osutil.regular import read_regular

PID_FILES = "run/libvirt/qemu"
# A guest that is migrated in or restored, or that goes on from a snapshot.
_INCOMING = ("-incoming", "-loadvm")
_DELETED = " (deleted)"
_MAX_FILE = 16 << 20  # a process's arguments may take a quarter of its stack, 6 MiB at most
_START_TIME = 19  # of the fields of /proc/PID/stat behind the command's name


class Process(NamedTuple):
    """The QEMU of a running guest.

    ``instance`` names this process among all that ever ran, ``age`` is how long it has been running
    (seconds). ``executable`` is the path of its binary, empty if that is not known or the file
    was replaced since. ``incoming`` is whether it was started to load another QEMU's state.
    ``devices`` are the VFIO devices it was started with: id to PCI address or mdev UUID on this
    host, empty where the arguments do not say. ``options`` are their -device arguments, by id, in
    the notation of QEMU's k=v form.
    """

    pid: int
    instance: str
    age: float
    executable: str
    incoming: bool
    devices: Mapping[str, str]
    options: Mapping[str, Mapping[str, str]] = {}


def find_process(name: str, uuid: str, root: str = "/") -> Process | None:
    """The QEMU of the guest with this name and UUID, by libvirt's PID file or among all processes.

    None if there is none, or if it is gone again.
    """
    for pid in _candidates(name, root):
        try:
            process = _read_process(pid, uuid, root)
        # A process can end between any two reads, and others (hidepid) cannot be read at all.
        except (OSError, ValueError, LookupError):
            continue
        if process is not None:
            return process
    return None


def arguments_of(process: Process, root: str = "/") -> list[str]:
    """All arguments of a process, without its name. Raises OSError if it is gone."""
    command = _read(os.path.join(root, "proc", str(process.pid), "cmdline")).split(b"\0")
    return [argument.decode("utf-8", "surrogateescape") for argument in command[1:]]


def is_incoming(name: str, root: str = "/") -> bool | None:
    """Whether the guest's QEMU, by libvirt's PID file, was started to load another's state.

    None where that cannot be told.
    """
    try:
        pid = _by_file(name, root)
        arguments = _read(os.path.join(root, "proc", pid, "cmdline")).split(b"\0") if pid else []
    except OSError:
        return None
    return _is_incoming(map(os.fsdecode, arguments)) if any(arguments) else None


def _is_incoming(arguments: Iterable[str]) -> bool:
    # libvirt passes "-incoming defer" for a migration and "-loadvm" for an internal snapshot.
    return any(argument in _INCOMING for argument in arguments)


def _by_file(name: str, root: str) -> str:
    """The PID in libvirt's file, which it keeps elsewhere for sessions; empty if there is none."""
    path = os.path.join(root, PID_FILES, f"{name}.pid")
    # A name with a slash cannot be a file's name; libvirt refuses such names, a hook's argument may
    # not.
    if os.path.basename(name) != name or not os.path.isfile(path):
        return ""
    pid = _read(path).strip().decode("ascii", "replace")
    return pid if pid.isdecimal() else ""


def _candidates(name: str, root: str) -> Iterator[str]:
    """PIDs, the likely one first."""
    likely = _by_file(name, root)
    if likely:
        yield likely
    yield from (pid for pid in os.listdir(os.path.join(root, "proc")) if pid.isdecimal())


def _read_process(pid: str, uuid: str, root: str) -> Process | None:
    home = os.path.join(root, "proc", pid)
    command = _read(os.path.join(home, "cmdline")).split(b"\0")
    arguments = [argument.decode("utf-8", "surrogateescape") for argument in command]
    # libvirt passes -uuid to every guest; the name can change, the UUID cannot.
    if ("-uuid", uuid) not in zip(arguments, arguments[1:]):
        return None
    stat = _read(os.path.join(home, "stat")).decode("ascii", "replace")
    # Behind the last ")": the command's name may contain spaces and brackets.
    ticks = int(stat.rpartition(")")[2].split()[_START_TIME])
    # The boot ID, because PIDs and start times repeat after a reboot.
    boot = _read(os.path.join(root, "proc/sys/kernel/random/boot_id")).decode().strip()
    uptime = float(_read(os.path.join(root, "proc/uptime")).split()[0])
    return Process(
        pid=int(pid),
        instance=f"{boot}:{pid}:{ticks}",
        age=max(0.0, uptime - ticks / os.sysconf("SC_CLK_TCK")),
        executable=_executable(home),
        incoming=_is_incoming(arguments),
        devices={alias: _host(options) for alias, options in _devices(arguments)},
        options=dict(_devices(arguments)),
    )


def _executable(home: str) -> str:
    try:
        path = os.readlink(os.path.join(home, "exe"))
    except OSError:
        return ""
    # An upgraded package: asking the new binary would give another version than the running one.
    return "" if path.endswith(_DELETED) else path


def _devices(arguments: list[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    for option, value in zip(arguments, arguments[1:]):
        # Cheap test first: libvirt's other -device arguments are JSON, which would have to be
        # parsed.
        if option != "-device" or "vfio-pci" not in value:
            continue
        try:
            options = parse_device(value)
        except GuestError:
            continue
        if "id" in options and options.get("driver", "").startswith("vfio-pci"):
            yield options["id"], options


def _host(options: Mapping[str, str]) -> str:
    return options.get("host") or os.path.basename(options.get("sysfsdev", ""))


def _read(path: str) -> bytes:
    return read_regular(path, _MAX_FILE)
