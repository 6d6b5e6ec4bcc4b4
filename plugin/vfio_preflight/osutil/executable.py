"""Which foreign binary may be run, and as whom.

The path of an emulator comes from a guest's XML, thus from any user who may define a guest, while
the hook runs as root. Two rules prevent an escalation: the binary must be one that only root can
change, and it runs as the user that libvirt runs guests as.

The binary is checked by path and run by path. In between only a user who can write to one of its
directories could replace it, and the check has established that only root can.
"""

from __future__ import annotations

import os
import stat

from ..errors import PreflightError
from .light import NamedTuple
from .regular import read_start

_USERS = ("libvirt-qemu", "qemu", "nobody")  # Debian and Ubuntu; RHEL and SUSE; anywhere


class ExecutableError(PreflightError):
    """A binary that must not be run, or no user to run it as. The text begins with its path."""


class Executable(NamedTuple):
    """A binary that may be run.

    ``identity`` is device, inode, size in bytes, and the times of modification and of status
    change in nanoseconds: it changes whenever the file is replaced, e.g. by a package manager.
    ``script``: it is a script ("#!"), whose identity says nothing about what it starts.
    """

    path: str
    realpath: str
    identity: tuple[int, int, int, int, int]
    script: bool


class User(NamedTuple):
    """Who a process runs as."""

    name: str
    uid: int
    gid: int


def trusted_executable(path: str, root: str = "/") -> Executable:
    """Return the executable at ``path`` below ``root``, symbolic links resolved.

    It and every directory from ``root`` down to it must belong to root, or to the caller, and must
    not be writable by group or others, not even with the sticky bit: a new name beside it can be
    linked to. What lies above ``root`` is not examined.

    Raises ExecutableError if the path is not absolute, leads out of ``root``, is no executable
    regular file, is set-user-ID or set-group-ID, or can be changed by others.
    """
    if not path.startswith("/"):
        raise ExecutableError(f"{path!r}: not an absolute path")
    # Resolved first: what is checked below must be what execve() will open, not a link to it.
    top = os.path.realpath(root)
    try:
        realpath = os.path.realpath(os.path.join(top, path.lstrip("/")))
        info = os.stat(realpath)
        _require_program(path, realpath, info)
        _require_within(path, realpath, top)
        _require_owned(path, realpath, top)
        script = _is_script(realpath)
    except OSError as error:
        raise ExecutableError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ExecutableError(f"{path!r}: not a path: {error}") from error
    # ctime is included because, unlike mtime, it cannot be set back with utimensat(2).
    identity = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
    return Executable(path, realpath, identity, script)


def _require_program(path: str, realpath: str, info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        problem = "not a regular file"
    elif not info.st_mode & 0o111:
        problem = "not executable"
    # Run by root, a set-user-ID binary would undo the change to the unprivileged user.
    elif info.st_mode & (stat.S_ISUID | stat.S_ISGID):
        problem = "it changes its user or group when run (set-user-ID or set-group-ID)"
    else:
        return
    raise ExecutableError(f"{_name(path, realpath)}: {problem}")


def _require_within(path: str, realpath: str, top: str) -> None:
    if os.path.commonpath((realpath, top)) != top:
        raise ExecutableError(f"{_name(path, realpath)}: leads out of {top}")


def _require_owned(path: str, realpath: str, top: str) -> None:
    # realpath() left no symbolic link in the path, so each parent is a real directory.
    here = realpath
    while True:
        problem = _ownership_problem(os.lstat(here))
        if problem:
            what = "it" if here == realpath else f"directory {here}"
            raise ExecutableError(
                f"{_name(path, realpath)}: {what} {problem}, so somebody other than root could"
                " replace what runs; make it owned and writable by root alone (chown root, chmod"
                " go-w)"
            )
        if here == top:
            return
        here = os.path.dirname(here)


def _ownership_problem(info: os.stat_result) -> str:
    # The caller's own files are accepted so that an ordinary user can run the commands and tests.
    if info.st_uid not in (0, os.geteuid()):
        return f"belongs to user {info.st_uid}"
    # No exception for the sticky bit: it prevents renaming, not the creation of new names.
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"is writable by group or others (mode {stat.S_IMODE(info.st_mode):04o})"
    return ""


def _name(path: str, realpath: str) -> str:
    return path + (f" ({realpath})" if realpath != path else "")


def _is_script(realpath: str) -> bool:
    try:
        # execve() starts the interpreter named there, so the file's identity says nothing about it.
        return read_start(realpath, 2) == b"#!"
    except PermissionError:
        return False  # executable, but not readable, for us: no script could run like that


def unprivileged_user() -> User | None:
    """Return the user to run programs as, or None where the caller is not root and stays as it is.

    Raises ExecutableError if the caller is root and this host has none of the users.
    """
    if os.geteuid() != 0:
        return None
    # Imported here: pwd is needed only where a program is really started, not in most hook runs.
    import pwd

    # Preferred in this order: libvirt itself runs emulators as one of the first two.
    for name in _USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        # An entry with uid 0 would silently leave the program with root's privileges.
        if entry.pw_uid != 0:
            return User(name, entry.pw_uid, entry.pw_gid)
    raise ExecutableError(
        "no unprivileged user to run programs as: this host has none of"
        f" {', '.join(_USERS)}; create one"
    )
