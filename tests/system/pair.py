"""The pair of hosts that the tests migrate guests between, and how an operator works with them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from lxml import etree

from lab import Host, Lab, make_config
from lab.configs import VSC_BODY, patched

CHECKOUT = Path(__file__).parents[2]
NAMESPACE = "{urn:vfio-preflight:1}"

VF = "0000:06:00.4"
SECOND_VF = "0000:06:00.6"
NETWORK_VF = "0000:06:00.5"
PCI = "0000:07:00.0"
MDEV = "c0ffee00-1111-4222-8333-444455556666"
MDEV_TYPE = "nvidia-63"

CONFIG = make_config()
VSC_AT = 0x63  # first byte of the body of the VSC at 0x60
OTHER_VSC = patched(CONFIG, VSC_AT, VSC_BODY[0] ^ 0x50)
OTHER_LENGTH = patched(CONFIG, 0x62, CONFIG[0x62] ^ 0x04)
OTHER_PM = patched(CONFIG, 0x43, CONFIG[0x43] ^ 0x02)  # D1; PME is shown of no device
QEMU_LINE = (
    "get_pci_config_device: Bad config data: i=0x63 read: 1 device: 51 cmask: ff wmask: 0 w1cmask:0"
)

OLD, NEW = "pc-q35-9.0", "pc-q35-9.1"


class Answer(NamedTuple):
    """What the operator's command answered: exit status and report."""

    status: int
    report: dict[str, Any]

    def codes(self, device: int = 0) -> list[str]:
        return [finding["code"] for finding in self.report["devices"][device]["findings"]]


class Pair:
    """The Lab's hosts a and b, with the project installed on both."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.a, self.b = lab, lab.a, lab.b

    def install(self, host: Host) -> None:
        """From a checkout, with the system's own Python, as the README has it."""
        environment = f"PYTHONPATH={CHECKOUT / 'plugin'}"
        command = ["env", environment, "/usr/bin/python3", "-m", "vfio_preflight", "install"]
        # It compiles the package, and calls the hook: in a virtual machine that takes its time.
        host.run(command, timeout=300).check_returncode()
        host.reload()

    def configure(self, text: str, host: Host | None = None) -> None:
        (host or self.b).path("/etc/vfio-preflight.conf").write_text(text)

    def present(self, host: Host, name: str, config: bytes) -> None:
        """Let a device present ``config``; of an mdev the operator has to tell the state."""
        host.set_config(name, config)
        if name == MDEV:
            host.path(f"/var/lib/vfio-preflight/states/{name}.bin").write_bytes(config)

    def record(self, guest: str, host: Host | None = None) -> subprocess.CompletedProcess[str]:
        return (host or self.a).run(["vfio-preflight", "record", guest])

    def start(self, xml: str) -> str:
        """Start a guest on a and record its devices' states, as an operator would."""
        guest = self.a.start_guest(xml)
        recorded = self.record(guest)
        assert recorded.returncode == 0, recorded.stdout + recorded.stderr
        return guest

    def check(self, guest: str) -> Answer:
        """The dry run, asked on a."""
        result = self.a.run(
            ["vfio-preflight", "check", guest, "--to", self.b.uri, "--format", "json"]
        )
        assert result.returncode != 2, result.stderr
        assert self.b.virsh("list", "--all", "--name").stdout.strip() == ""
        return Answer(result.returncode, json.loads(result.stdout))

    def migrate(self, guest: str, *extra: str) -> subprocess.CompletedProcess[str]:
        return self.lab.migrate(guest, self.a, self.b, *extra)

    def where(self, guest: str) -> tuple[str, str]:
        """The guest's state on a and on b."""
        return self.a.state(guest), self.b.state(guest)

    def annotation(self, guest: str, host: Host | None = None) -> etree._Element:
        """The report in the live metadata of a guest, on b."""
        xml = (host or self.b).virsh("dumpxml", guest).stdout
        ours = etree.fromstring(xml).find(f"metadata/{NAMESPACE}preflight")
        assert ours is not None, xml
        found = [child for child in ours if etree.QName(child).localname == "report"]
        assert len(found) == 1
        return found[0]


MIGRATED = ("shut off", "running")
STAYED = ("running", "")
