"""A real sshd for each host of the Lab, all on the loopback interface of the one that asks.

    with SshNetwork(lab.a) as network:
        network.serve(lab.b)
        lab.a.run(["ssh", "lab-b", "hostname"])

An sshd has the file system, the processes and the name of its host, and the network of the client.
Keys are made for the occasion; the client's system-wide ssh_config has what an operator would have
in ``~/.ssh/config``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType

from .host import Host, LabError, child_of

_FIRST_PORT = 2201
_TIMEOUT = 20.0  # seconds
_SSHD_CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey /etc/ssh/lab_host_key
AuthorizedKeysFile /etc/ssh/lab_authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
MaxStartups 100
"""
_SSH_CONFIG = """\
Host {alias}
  HostName 127.0.0.1
  HostKeyAlias {host_key_alias}
  Port {port}
  User root
  IdentitiesOnly yes
  IdentityFile {key}
  UserKnownHostsFile /etc/ssh/lab_known_hosts
"""


class SshNetwork:
    """The sshds that ``client`` can reach, by the names lab-HOST; a context manager."""

    def __init__(self, client: Host) -> None:
        self.client = client
        self._port = _FIRST_PORT
        self._servers: list[subprocess.Popen[str]] = []
        client.run(["/usr/bin/ip", "link", "set", "lo", "up"]).check_returncode()
        self._keygen(client, "/etc/ssh/lab_key")
        self._keygen(client, "/etc/ssh/lab_other_key")
        for name in ("ssh_config", "lab_known_hosts"):
            client.path(f"/etc/ssh/{name}").write_text("")

    def __enter__(self) -> SshNetwork:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self._servers:
            # Not nsenter, whose end would leave it, and its pipes, behind.
            os.kill(child_of(server), signal.SIGKILL)
            server.communicate()

    def serve(self, host: Host) -> None:
        """Start the host's sshd, and let the client in."""
        self._keygen(host, "/etc/ssh/lab_host_key")
        public = self.client.path("/etc/ssh/lab_key.pub").read_text()
        host.path("/etc/ssh/lab_authorized_keys").write_text(public)
        host.path("/run/sshd").mkdir(exist_ok=True)
        config = "/etc/ssh/lab_sshd_config"
        host.path(config).write_text(_SSHD_CONFIG.format(port=self._port))
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", config]
        server = host.popen(command, network=self.client)
        self._servers.append(server)
        self._trust(host)
        self.name(f"lab-{host.name}")
        self._await(f"lab-{host.name}", server)
        self._port += 1

    def name(
        self, alias: str, host: Host | None = None, key: str = "lab_key", port: int = 0
    ) -> None:
        """Let the client know the host it served last by ``alias``, with another key or port."""
        text = _SSH_CONFIG.format(
            alias=alias,
            host_key_alias=f"lab-{host.name}" if host else alias,
            port=port or self._port,
            key=f"/etc/ssh/{key}",
        )
        with self.client.path("/etc/ssh/ssh_config").open("a") as file:
            file.write(text)

    def _keygen(self, host: Host, path: str) -> None:
        for end in ("", ".pub"):
            host.path(path + end).unlink(missing_ok=True)
        command = ["/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path]
        host.run(command).check_returncode()

    def _trust(self, host: Host) -> None:
        public = host.path("/etc/ssh/lab_host_key.pub").read_text()
        with self.client.path("/etc/ssh/lab_known_hosts").open("a") as file:
            file.write(f"lab-{host.name} {public}")

    def _await(self, alias: str, server: subprocess.Popen[str]) -> None:
        child_of(server)
        deadline = time.monotonic() + _TIMEOUT
        while True:
            tried = self.client.run(["/usr/bin/ssh", "-o", "BatchMode=yes", alias, "true"])
            if tried.returncode == 0:
                return
            if time.monotonic() > deadline or server.poll() is not None:
                raise LabError(f"{alias}: no sshd: {tried.stderr}")
            time.sleep(0.1)


def served(path: Path) -> bool:
    """Whether this machine has what an :class:`SshNetwork` needs."""
    return all((path / name).exists() for name in ("usr/sbin/sshd", "usr/bin/ssh"))
