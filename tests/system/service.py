"""``vfio-preflight watch`` on a host of the Lab, as its service manager would run it."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable

from lab import Host

_LOG = "/var/log/libvirt/watch.log"


def wait(condition: Callable[[], object], seconds: float = 20, every: float = 0.02) -> None:
    """Wait until ``condition`` holds; fail if it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(every)


class Service:
    """The service on one host; what all its runs said is in one log."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.pid = 0
        self._log = host.log / "watch.log"
        self._log.write_text("")

    def start(self, patience: float = 20) -> None:
        """Start it and wait until it has seen which guests are running."""
        begun = len(self.log())
        script = f"setsid vfio-preflight watch >>{_LOG} 2>&1 </dev/null & echo $!"
        self.pid = int(self.host.run(["/bin/sh", "-c", script]).stdout)
        wait(lambda: "connected to" in self.log()[begun:], patience)

    def kill(self) -> None:
        """End it the hard way."""
        self.host.run(["/bin/sh", "-c", f"kill -KILL {self.pid}"]).check_returncode()
        wait(lambda: not self._alive())

    def end(self) -> None:
        """End it, if it runs."""
        if self.pid and self._alive():
            self.kill()

    def _alive(self) -> bool:
        return self.host.path(f"/proc/{self.pid}").exists()

    def log(self) -> str:
        return self._log.read_text()

    def recorded(self) -> Counter[str]:
        """How many devices of each guest were recorded."""
        return Counter(re.findall(r"(?m)^([^:\n]+): [^:\n]+: [^:\n]+ recorded: ", self.log()))

    def told_of(self, guest: str) -> str:
        """What it said last of the record of a guest with one device; empty if it has not yet."""
        words = re.findall(rf"(?m)^{guest}: [^:\n]+: hostdev0 (recorded|kept): ", self.log())
        return words[-1] if words else ""

    def status(self, name: str) -> int:
        """A number of /proc/PID/status; of memory, in KiB."""
        text = self.host.path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"(?m)^{name}:\s+(\d+)", text)
        assert found, text
        return int(found[1])

    def cpu(self) -> float:
        """Seconds of processor time it has used."""
        stat = self.host.path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / 100
