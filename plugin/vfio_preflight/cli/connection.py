"""libvirt-python, for the command only: connections, and errors that an operator can read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from ..errors import PreflightError

LOCAL = "qemu:///system"
# MiB/s that no network has.
UNLIMITED = 1 << 26
# What libvirt puts around ssh's own words: virNetSocketReadWire(), virNetSocketWriteWire().
_AROUND_SSH = re.compile(
    r"(?:Cannot recv data|Cannot write data|End of file while reading data): (.*\S)\s*:"
    r" (?:Connection reset by peer|Broken pipe|Input/output error)",
    re.DOTALL,
)
# Of those, lines that say why; before them ssh may write a page, of a host key for example.
_LINES_OF_SSH = 2
# libvirt-python has no types.
Domain = Any
Connection = Any
Library = Any


class LibvirtError(PreflightError):
    """libvirt is missing, cannot be reached, or refused."""


class GoneError(LibvirtError):
    """The guest does not run, or does not any more."""


class BusyError(LibvirtError):
    """libvirt is running another job on the guest; a later attempt may succeed."""


def library() -> Any:  # noqa: ANN401 - libvirt-python has no types
    """The ``libvirt`` module, quietened: errors come as exceptions alone."""
    try:
        import libvirt
    except ImportError as error:
        raise LibvirtError(
            "this command needs libvirt-python (Debian: python3-libvirt, RHEL: python3-libvirt)"
        ) from error
    # libvirt otherwise prints each error to stderr in addition to raising it.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    return libvirt


@contextmanager
def connected(uri: str, called: str = "") -> Iterator[Any]:
    """A connection to ``uri``, closed at the end. Raises :class:`LibvirtError`.

    ``called`` is what the operator calls it, if that is not the URI.
    """
    libvirt = library()
    try:
        connection = libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise LibvirtError(f"{unreachable(called or uri)}{why(str(error))}") from error
    try:
        yield connection
    finally:
        connection.close()


def unreachable(uri: str) -> str:
    """How the error begins of a libvirt that cannot be connected to."""
    return f"cannot connect to {uri}: "


def why(error: str) -> str:
    """What libvirt says of a connection, in one line; of what ssh says, the end."""
    by_ssh = _AROUND_SSH.fullmatch(error)
    lines = [" ".join(line.split()) for line in (by_ssh[1] if by_ssh else error).splitlines()]
    told = [line for line in lines if line]
    return " ".join(told[-_LINES_OF_SSH:] if by_ssh else told)


def domain_named(connection: Any, name: str) -> Any:  # noqa: ANN401
    """The domain ``name`` (or UUID) of a connection. Raises :class:`LibvirtError`."""
    libvirt = library()
    # By name first: a guest's name may look like a UUID.
    for lookup in (connection.lookupByName, connection.lookupByUUIDString):
        try:
            return lookup(name)
        except libvirt.libvirtError:
            continue
    raise LibvirtError(f"{connection.getURI()} has no guest '{name}'")


def bandwidth_of(domain: Domain) -> int:
    """What ``virsh migrate-setspeed`` limits a guest's migration to, in MiB/s; 0 for no limit."""
    try:
        limit = int(domain.migrateGetMaxSpeed(0))
    except library().libvirtError:
        return 0
    # libvirt's default is the largest number that QEMU takes (QEMU_DOMAIN_MIG_BANDWIDTH_MAX).
    return limit if limit < UNLIMITED else 0


def require_local(uri: str) -> None:
    """Raise :class:`LibvirtError` for the libvirt of another host: its devices are not here."""
    # qemu+ssh://host/system has a host part, qemu:///system and embedded drivers have none.
    if urlsplit(uri).netloc:
        raise LibvirtError(f"{uri} is another host's libvirt; run this on that host, without URI")
