"""The ssh connection behind a libvirt URI, as the ``ssh`` program's arguments.

    >>> Ssh.of("qemu+ssh://root@b:2222/system?keyfile=/root/.ssh/lab").arguments("true")
    ['ssh', '-p', '2222', '-l', 'root', '-i', '/root/.ssh/lab', …, '--', 'b', 'true']

With ``qemu+ssh`` libvirt itself runs that program, with these arguments in this order
(``virNetSocketNewConnectSSH``), so that a ``~/.ssh/config`` with its jump hosts, an agent and a
``known_hosts`` hold for both. With ``qemu+libssh`` and ``qemu+libssh2`` libvirt connects by a
library, and its parameters are put into the program's words here.

Source: libvirt, "Connection URIs", "SSH transport" and the parameters listed there.
"""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

from ..osutil.light import NamedTuple
from .connection import LibvirtError

# Seconds to connect, per address of the host.
CONNECT_WITHIN = 10
TRANSPORTS = ("ssh", "libssh", "libssh2")
# Without a terminal nobody answers; libvirt's no_tty=1 has it run ssh in the same way.
ALWAYS = ("-T", "-e", "none", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_WITHIN}")
# libvirt's sshauth, in ssh's words.
METHODS = {
    "agent": "publickey",
    "privkey": "publickey",
    "password": "password",
    "keyboard-interactive": "keyboard-interactive",
}
# known_hosts_verify of the libraries.
VERIFY = {"normal": "yes", "auto": "accept-new", "ignore": "no"}


class Ssh(NamedTuple):
    """An ssh connection: ``host`` as ssh looks it up; ``program`` is what is run, ``options`` stand
    before the host."""

    host: str
    program: str
    options: tuple[str, ...]

    @classmethod
    def of(cls, uri: str) -> Ssh | None:
        """The connection of a libvirt URI; None for one by another transport.

        Raises LibvirtError for a URI that cannot be taken apart.
        """
        try:
            parts = urlsplit(uri)
            port, host = parts.port, unquote(parts.hostname or "")
        except ValueError as error:
            raise LibvirtError(f"{uri}: not a URI: {error}") from error
        transport = parts.scheme.partition("+")[2]
        if transport not in TRANSPORTS or not host:
            return None
        given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        options = [*(["-p", str(port)] if port else [])]
        # urlsplit() lowers the case of host names, which ssh's config may distinguish.
        named = parts.netloc.rpartition("@")[2]
        host = next((text for text in (_host(named),) if text.lower() == host.lower()), host)
        if parts.username:
            options += ["-l", unquote(parts.username)]
        if given.get("keyfile"):
            options += ["-i", given["keyfile"]]
        options += ALWAYS
        options += _options(given, transport)
        program = given.get("command", "") if transport == "ssh" else ""
        return cls(host, program or "ssh", tuple(options))

    def arguments(self, command: str) -> list[str]:
        """What runs ``command`` there, in the shell of the user."""
        # As libvirt has it: a host cannot be taken for an option.
        return [self.program, *self.options, "--", self.host, command]


def _host(named: str) -> str:
    text = named[1:].partition("]")[0] if named.startswith("[") else named.partition(":")[0]
    return unquote(text)


def _options(given: dict[str, str], transport: str) -> list[str]:
    found = []
    if _is_set(given.get("no_verify", "")):
        found.append("StrictHostKeyChecking=no")
    # With plain ssh libvirt does not look at the rest.
    if transport != "ssh":
        if given.get("known_hosts"):
            found.append(f"UserKnownHostsFile={given['known_hosts']}")
        verify = VERIFY.get(given.get("known_hosts_verify", ""))
        if verify and "StrictHostKeyChecking=no" not in found:
            found.append(f"StrictHostKeyChecking={verify}")
        words = [METHODS[word] for word in given.get("sshauth", "").split(",") if word in METHODS]
        if words:
            found.append(f"PreferredAuthentications={','.join(dict.fromkeys(words))}")
    return [word for option in found for word in ("-o", option)]


def _is_set(value: str) -> bool:
    return value not in ("", "0")
