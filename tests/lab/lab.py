"""The Lab: hosts that can migrate guests to each other."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from .host import Host, LabError

_HERE = Path(__file__).resolve().parent
_SOURCES = (
    _HERE.parents[1] / "plugin/vfio_preflight/qemu/trial/fakevfio.c",
    _HERE / "libvirtnet.c",
)


def _build_preload(directory: Path) -> bytes:
    """The library that every program in a host is started with."""
    library = directory / "preload.so"
    options = ("-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-o", str(library))
    command = ["cc", *options, *map(str, _SOURCES), "-ldl"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode != 0 or built.stderr:
        raise LabError(built.stderr)
    content = library.read_bytes()
    library.unlink()  # if we are killed, only what the hosts themselves remove may be there
    return content


class Lab:
    """Two hosts, ``a`` and ``b``, and more with :meth:`add_host`; a context manager.

    ``workdir`` keeps the hosts' libvirt and QEMU logs in ``<host>/``. It is seen at the same path
    in every host, so it must not lie below /run, /dev or /sys. Devices are faked, or else the
    machine's own. ``other_release`` are the programs of ``b``, as :class:`Host` has them. Guests
    are ``confined`` by AppArmor, where it is at hand, or by nothing.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        faked: bool = True,
        other_release: Path | None = None,
        confined: bool = False,
    ) -> None:
        self.workdir = workdir
        self._other_release = other_release
        self._hosts: dict[str, Host] = {}
        self._ends = contextlib.ExitStack()
        self.directory = Path()
        self._faked = faked
        self._confined = confined
        self._preload: bytes | None = None

    def __enter__(self) -> Lab:
        # The machine's own /tmp, whatever TMPDIR says: a socket's path has 107 bytes at most.
        self.directory = Path(tempfile.mkdtemp(prefix="lab-", dir="/tmp"))
        self._ends.callback(shutil.rmtree, self.directory, ignore_errors=True)
        try:
            self.directory.chmod(0o711)  # QEMU's user gets to its sockets, and sees nothing else
            self._preload = _build_preload(self.directory) if self._faked else None
            self.add_host("a")
            self.add_host("b", self._other_release)
        except BaseException:
            self._ends.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ends.close()

    def add_host(self, name: str, release: Path | None = None) -> Host:
        """Add a host; its name is a short word of its own, ``release`` as in :class:`Host`."""
        directory, log = self.directory / name, self.workdir / name
        host = Host(name, directory, log, self._preload, release, self._confined)
        self._ends.callback(host.end)
        self._hosts[name] = host
        return host

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    @property
    def a(self) -> Host:
        """The first host."""
        return self._hosts["a"]

    @property
    def b(self) -> Host:
        """The second host."""
        return self._hosts["b"]

    def migrate(
        self, guest: str, source: Host, destination: Host, *extra: str, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """``virsh migrate --live --p2p``, run on the source, with ``extra`` options."""
        return source.virsh(
            "migrate",
            "--live",
            "--p2p",
            guest,
            destination.uri,
            "--migrateuri",
            destination.migration_uri(guest),
            *extra,
            timeout=timeout,
        )
