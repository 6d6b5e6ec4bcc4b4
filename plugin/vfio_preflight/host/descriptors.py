"""Finding and duplicating the descriptor of a VFIO device in another process.

A VFIO device that was opened through its group is an anonymous file: before Linux 6.18 nothing says
which device it is. Where that is not certain there is no answer; the group's own descriptor, which
is a character device with the group's number in its name, gives the device by name then.

Source: Linux ``Documentation/filesystems/proc.rst`` ("VFIO Device files"), pidfd_getfd(2).
"""

from __future__ import annotations

import os
import re
import stat

from ..osutil.light import NamedTuple
from ..osutil.regular import read_start

SYSPATH = "vfio-device-syspath:"
ANONYMOUS = "anon_inode:[vfio-device]"
# The first release whose VFIO core counts how often a device is open.
COUNTS_OPENS = (5, 15)
_GROUP = r"/dev/vfio/([0-9]+)"
_PIDFD_GETFD = 438  # on all architectures but alpha


class _Open(NamedTuple):
    """An open file: its number, what /proc/PID/fd shows, the device's path that fdinfo gives."""

    number: int
    link: str
    syspath: str


def descriptor_of(directory: str, pid: int, root: str = "/") -> int | None:
    """The number under which process ``pid`` has the device at sysfs ``directory`` open.

    None if it does not, or if that is not certain. Raises OSError where /proc cannot be read.
    """
    files = list(_open_files(pid, root))
    # fdinfo has the path below /sys as the kernel sees it, whatever root this process was given.
    syspath = "/" + os.path.relpath(directory, os.path.realpath(root))
    named = [file.number for file in files if file.syspath == syspath]
    if named:
        return named[0]
    # With iommufd the descriptor is the character device itself, so its numbers identify it.
    character = _character_device(directory)
    if character is not None:
        found = [file.number for file in files if _number_of(pid, file, root) == character]
        if found:
            return found[0]
    return _only_one(files, directory, root)


def group_of(directory: str, pid: int, root: str = "/") -> int | None:
    """The number under which process ``pid`` has the IOMMU group of the device open, or None.

    Raises OSError where /proc cannot be read.
    """
    try:
        group = os.path.basename(os.readlink(os.path.join(directory, "iommu_group")))
    except OSError:
        return None
    files = _open_files(pid, root)
    # A group can be opened once only (vfio_group_fops_open), so there is no second one.
    return next((file.number for file in files if file.link == f"/dev/vfio/{group}"), None)


def may_open_again(directory: str, root: str = "/") -> bool:
    """Whether a device that is open may be opened through its group once more.

    A PCI device always: vfio-pci itself has ever counted. Of a mediated device the driver is called
    each time before Linux 5.15, where the VFIO core began to count (``vfio_df_open``); Enterprise
    Linux 9 has that by backport in its 5.14.
    """
    if not os.path.isdir(os.path.join(directory, "mdev_type")):
        return True
    try:
        release = read_start(os.path.join(root, "proc/sys/kernel/osrelease"), 256).decode("ascii")
    except (OSError, ValueError):
        return False
    match = re.match(r"([0-9]+)\.([0-9]+)", release)
    numbers = (int(match[1]), int(match[2])) if match else (0, 0)
    return numbers >= COUNTS_OPENS or (numbers == (5, 14) and ".el9" in release)


def _open_files(pid: int, root: str) -> list[_Open]:
    """A process's open files. fdinfo can contain names of arbitrary bytes that it set (dma-buf)."""
    proc = os.path.join(root, f"proc/{pid}")
    files = []
    for number in sorted(os.listdir(os.path.join(proc, "fd")), key=int):
        try:
            link = os.readlink(os.path.join(proc, "fd", number))
            # Bounded: fdinfo of an epoll or inotify descriptor has a line for each watched file.
            info = read_start(os.path.join(proc, "fdinfo", number), 1 << 16)
        except FileNotFoundError:
            continue  # closed meanwhile
        lines = info.decode(errors="replace").split("\n")
        paths = [line[len(SYSPATH) :].strip() for line in lines if line.startswith(SYSPATH)]
        files.append(_Open(int(number), link, paths[0] if paths else ""))
    return files


def _character_device(directory: str) -> str | None:
    """Major and minor number of the device's file in /dev/vfio/devices, if it has one."""
    try:
        (name,) = os.listdir(os.path.join(directory, "vfio-dev"))
        path = os.path.join(directory, "vfio-dev", name, "dev")
        return read_start(path, 32).decode("ascii").strip()
    except (OSError, ValueError):
        return None


def _number_of(pid: int, file: _Open, root: str) -> str | None:
    try:
        # stat() through /proc follows the descriptor, not the path that the link shows.
        info = os.stat(os.path.join(root, f"proc/{pid}/fd/{file.number}"))
    except OSError:
        return None
    if not stat.S_ISCHR(info.st_mode):
        return None
    return f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"


def _only_one(files: list[_Open], directory: str, root: str) -> int | None:
    """The only VFIO device of a process whose only group has no other device in it."""
    devices = [file for file in files if file.link == ANONYMOUS]
    groups = [match[1] for file in files if (match := re.fullmatch(_GROUP, file.link))]
    # A named device that did not match is another device, so the guess below would be wrong.
    if len(devices) != 1 or len(groups) != 1 or devices[0].syspath:
        return None
    try:
        number = os.path.basename(os.readlink(os.path.join(directory, "iommu_group")))
        members = os.listdir(os.path.join(root, "sys/kernel/iommu_groups", number, "devices"))
    except OSError:
        return None
    # Group membership: with one device in the group, the group's only device must be this one.
    alone = members == [os.path.basename(directory)]
    return devices[0].number if alone and groups == [number] else None


def duplicate(pid: int, number: int) -> int:
    """A descriptor of our own for open file ``number`` of process ``pid``.

    Needs the right to trace the process (ptrace(2), PTRACE_MODE_ATTACH_REALCREDS). Raises OSError.
    """
    # Python has no pidfd_getfd(); ctypes is imported here, as few checks need it.
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    # A pidfd: a PID alone could by then belong to another process.
    process = os.pidfd_open(pid)
    try:
        descriptor = library.syscall(_PIDFD_GETFD, process, number, 0)
        if descriptor < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(process)
    return int(descriptor)
