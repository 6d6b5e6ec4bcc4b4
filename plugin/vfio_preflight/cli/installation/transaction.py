"""Changes to files that are made as a whole, or not at all.

    with Transaction(root) as change:
        change.write(Payload("etc/x.conf", b"..."))

Every step is one rename(2) onto a file that is complete, and is undone, in reverse order, if a
later step fails or a signal asks the program to end: each file is then what it was, the same inode
with the same times and labels. Who is killed meanwhile leaves files that are old or new, each of
them whole, and beside them ``.NAME.PID`` and ``.NAME.PID.old``, which :func:`sweep_beside` removes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType

from .files import digest, digest_at
from .payload import HOOK, LIBRARY, InstallError, Payload

# The signals by which a terminal, a service manager or timeout(1) ends a program.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LEFT = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)(\.old)?")
REMEDIES = {
    errno.EROFS: "that file system is mounted read-only: mount it writable, or install into the"
    " image that the host starts from (--root DIR)",
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there, or raise the quota",
    errno.EACCES: "run this as root",
    errno.EPERM: "run this as root, on files that are not immutable (lsattr)",
    errno.EEXIST: "a directory is needed there: move away what is in its place",
    errno.ENOTDIR: "a directory is needed there: move away what is in its place",
    errno.EXDEV: "the directory must not be a mount point of its own",
}


def explain(error: OSError) -> str:
    """What an error of the operating system means for an installation."""
    remedy = REMEDIES.get(error.errno or 0, "")
    named = f"{error.filename}: cannot be written: {error.strerror}"
    text = named if error.filename else str(error)
    return f"{text}; {remedy}" if remedy else text


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Errors in here are about ``path``: write(2) names no file, others a temporary one."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = path, None
        raise


class Transaction:
    """Steps that are undone unless all of them succeed; a context manager.

    Raises InstallError for everything that ends it before its end, in words that say that nothing
    was changed.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._undo: list[Callable[[], None]] = []
        self._afterwards: list[str] = []
        self._ends = ExitStack()
        self._signals: list[int] = []

    def __enter__(self) -> Transaction:
        self._signals = self._ends.enter_context(signals_noted())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._ends:
            if error is None:
                for path in self._afterwards:
                    with suppress(OSError):
                        os.unlink(path)
                return
            failed = self._roll_back()
        outcome = _stuck(failed) if failed else "nothing was changed"
        if isinstance(error, OSError):
            raise InstallError(f"{explain(error)}; {outcome}") from error
        if isinstance(error, InstallError):
            raise InstallError(f"{error}; {outcome}") from error

    def _roll_back(self) -> list[OSError]:
        failed = []
        for step in reversed(self._undo):
            try:
                step()
            except FileNotFoundError:
                # It was not done yet.
                continue
            except OSError as error:
                failed.append(error)
        return failed

    def check(self) -> None:
        """Raise InstallError if a signal has asked for the end: what was done is undone."""
        if self._signals:
            raise InstallError(f"interrupted by {signal.Signals(self._signals[0]).name}")

    def undo(self, step: Callable[[], None]) -> None:
        """Have ``step`` done if the transaction fails; said before what it undoes is done."""
        self.check()
        self._undo.append(step)

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Make a directory, and those above it, where they are not there."""
        full = os.path.join(self._root, path)
        if os.path.isdir(full):
            return
        if os.path.dirname(path):
            self.directory(os.path.dirname(path))
        self.undo(lambda: _rmdir(full))
        os.mkdir(full, mode)

    def tree(self, path: str) -> None:
        """Take whatever will be made at ``path``, where nothing is, away again."""
        full = os.path.join(self._root, path)
        self.undo(lambda: shutil.rmtree(full, ignore_errors=True))

    def write(self, item: Payload) -> bool:
        """Put a file in place, whole and with its mode; whether it was not there like that."""
        path = os.path.join(self._root, item.path)
        self.directory(os.path.dirname(item.path))
        if _is_there(path, item):
            return False
        new = _beside(path, item.path)
        self.undo(lambda: os.unlink(new))
        with naming(path):
            _write(new, item)
            self._replace(path, item.path, new)
        return True

    def link(self, path: str, target: str) -> None:
        """Have a symbolic link name ``target``."""
        full = os.path.join(self._root, path)
        before = os.readlink(full) if os.path.islink(full) else None
        if before == target:
            return
        new = _beside(full, path)

        def name(what: str) -> None:
            with suppress(FileNotFoundError):
                os.unlink(new)
            os.symlink(what, new)
            os.replace(new, full)

        self.undo(lambda: name(before) if before is not None else os.unlink(full))
        self.undo(lambda: os.unlink(new))
        with naming(full):
            name(target)

    def remove(self, path: str) -> None:
        """Take a file away."""
        self._replace(os.path.join(self._root, path), path, None)

    def _replace(self, path: str, name: str, new: str | None) -> None:
        """Rename ``new``, or nothing, onto ``path``."""
        old = f"{_beside(path, name)}.old"
        if os.path.lexists(path):
            self._keep(path, old)
        else:
            self.undo(lambda: os.unlink(path))
        if new is None:
            os.unlink(path)
        else:
            os.rename(new, path)

    def _keep(self, path: str, old: str) -> None:
        def restore() -> None:
            os.replace(old, path)
            # rename() of one link onto another of the same file does nothing.
            with suppress(FileNotFoundError):
                os.unlink(old)

        # That of another process with the same number must not be taken for what was here.
        with suppress(FileNotFoundError):
            os.unlink(old)
        self.undo(restore)
        os.link(path, old, follow_symlinks=False)
        self._afterwards.append(old)


def _beside(path: str, name: str) -> str:
    """Where a file is prepared, on the same file system, to be renamed onto ``path``."""
    directory = os.path.realpath(os.path.dirname(path))
    # libvirt runs every executable file of qemu.d, hidden ones too: one directory above.
    if name == HOOK:
        directory = os.path.dirname(directory)
    return os.path.join(directory, f".{os.path.basename(path)}.{os.getpid()}")


def _is_there(path: str, item: Payload) -> bool:
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return False
    # Rewritten, an equal hook would look to the next installation as if libvirt had not seen it.
    right = stat.S_ISREG(info.st_mode) and stat.S_IMODE(info.st_mode) == item.mode
    return right and digest_at(path) == digest(item.data)


def _write(path: str, item: Payload) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(item.data)
        file.flush()
        os.fchmod(descriptor, item.mode)
        # After a power failure the name must not stand for an empty file: libvirt would fail to
        # execute such a hook, and with it every start of a guest.
        os.fsync(descriptor)


def _rmdir(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError as error:
        # Somebody has put something into it meanwhile; or it was not made, for a file is there.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise


def _stuck(failed: list[OSError]) -> str:
    what = ", ".join(sorted({f"{error.filename}: {error.strerror}" for error in failed}))
    return f"not everything could be undone ({what}): run install again once that is mended"


@contextmanager
def signals_noted() -> Iterator[list[int]]:
    """Signals that end programs are noted in here, and end nothing.

    An exception out of a handler could come between any two instructions, those that undo the steps
    of a transaction among them. The programs that are started meanwhile do not inherit this.
    """
    noted: list[int] = []
    # Only there can handlers be set.
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = {n: signal.signal(n, lambda number, _frame: noted.append(number)) for n in ENDING}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def alone(root: str) -> Iterator[None]:
    """No other installation or removal below ``root`` runs. Raises InstallError if one does."""
    # A container shares the machine's / now and then, but not what is below.
    places = (os.path.join(root, os.path.dirname(LIBRARY)), root)
    place = next(path for path in places if os.path.isdir(path))
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # The kernel frees it, however the holder ends; and it leaves no file.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise InstallError(
            f"another installation to {root} is running; wait for its end"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def sweep_beside(root: str, paths: list[str]) -> None:
    """Remove what installations that were killed have left beside ``paths``."""
    names = {os.path.basename(path) for path in paths}
    places = {os.path.dirname(_beside(os.path.join(root, path), path)) for path in paths}
    # Where the hook was prepared by versions that lay in the library itself.
    places |= {os.path.dirname(os.path.join(root, path)) for path in paths}
    for place in places:
        for name in os.listdir(place) if os.path.isdir(place) else ():
            match = LEFT.fullmatch(name)
            if match and match["name"] in names and not _lives(int(match["pid"])):
                with suppress(OSError):
                    os.unlink(os.path.join(place, name))


def _lives(pid: int) -> bool:
    # Nobody else installs now (see alone), but an older version's install knows no lock.
    if pid == os.getpid():
        return False
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"install" in file.read()
    except OSError:
        return False
