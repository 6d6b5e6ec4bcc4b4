"""VDSM's hook point ``before_vm_migrate_destination``, run as VDSM does (docs/INTEGRATIONS.md)."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import guest_xml, hostdev_pci

from .pair import CHECKOUT, MIGRATED, OLD, OTHER_VSC, STAYED, VF, Pair

POINT = "/usr/libexec/vdsm/hooks/before_vm_migrate_destination"
HOOK = "50_vfio-preflight"
SUDOERS = "/etc/sudoers.d/50_vdsm_hook_vfio-preflight"
RUNNER = "/usr/lib/lab-vdsm.py"
PEER = Path(__file__).with_name("peers") / "vdsm.py"
# User and group of VDSM's package.
USER = "vdsm:x:36:36:Node Virtualization Manager:/:/sbin/nologin\n"
GROUP = "kvm-of-vdsm:x:36:\n"
# No password, as any system user.
SHADOW = "vdsm:!!:19000::::::\n"
AS_VDSM = ["/usr/bin/setpriv", "--reuid=36", "--regid=36", "--clear-groups"]
BLOCKED = "vfio-preflight: migration blocked: hostdev0 (0000:06:00.4): VSC at 0x60"


class Ovirt:
    """b as a host of oVirt's, with the shim installed by the documentation's commands."""

    def __init__(self, pair: Pair) -> None:
        self.pair, self.b = pair, pair.b
        for name, line in (("passwd", USER), ("group", GROUP), ("shadow", SHADOW)):
            with self.b.path(f"/etc/{name}").open("a") as file:
                file.write(line)
        self.b.path(RUNNER).write_bytes(Path(__file__).with_name("vdsm.py").read_bytes())
        self.install()

    def install(self) -> None:
        for mode, source, target in (
            ("755", "hooks/vdsm/before_vm_migrate_destination.py", f"{POINT}/{HOOK}"),
            ("440", f"etc/sudoers.d/{Path(SUDOERS).name}", SUDOERS),
        ):
            command = ["/usr/bin/install", "-D", "-m", mode, str(CHECKOUT / source), target]
            self.b.run(command).check_returncode()

    def add(self, name: str, text: str) -> None:
        path = self.b.path(f"{POINT}/{name}")
        path.write_text(text)
        path.chmod(0o755)

    def begin(self, guest: str) -> dict[str, Any]:
        """What VDSM on b does before libvirt hears of the migration of a's guest."""
        root = ElementTree.fromstring(self.pair.a.virsh("dumpxml", guest).stdout)
        xml = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True).decode()
        return self.run(xml)

    def run(self, xml: str) -> dict[str, Any]:
        done = self.b.run([*AS_VDSM, "/usr/bin/python3", RUNNER, POINT], stdin=xml)
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        # Whatever it found, the file is VDSM's.
        assert result["xml"] == xml
        return result


@pytest.fixture(scope="module")
def host_of_ovirt(hosts: Pair) -> Iterator[Ovirt]:
    ovirt = Ovirt(hosts)
    # VDSM brings a libvirt hook as well.
    theirs = hosts.b.hooks / "qemu"
    theirs.write_bytes(PEER.read_bytes())
    theirs.chmod(0o755)
    hosts.b.reload()
    yield ovirt
    theirs.unlink()
    for path in (SUDOERS, *(f"{POINT}/{name}" for name in (HOOK, "10_first", "90_last"))):
        hosts.b.path(path).unlink(missing_ok=True)


@pytest.fixture
def ovirt(host_of_ovirt: Ovirt, pair: Pair) -> Ovirt:
    host_of_ovirt.install()
    return host_of_ovirt


@pytest.fixture
def guest(ovirt: Ovirt) -> str:
    return ovirt.pair.start(guest_xml("ovirt01", OLD, [hostdev_pci(VF)]))


def judgement(result: dict[str, Any]) -> tuple[int, str]:
    (ran,) = [each for each in result["ran"] if each["name"] == HOOK]
    return ran["status"], ran["err"]


def test_sudoers_file_is_valid(ovirt: Ovirt) -> None:
    done = ovirt.b.run(["/usr/sbin/visudo", "-c", "-f", SUDOERS])
    assert done.returncode == 0, done.stdout + done.stderr
    allowed = ovirt.b.run(["/usr/bin/sudo", "-l", "-U", "vdsm"]).stdout
    assert allowed.count("NOPASSWD") == 1 and "check /dev/stdin --format json" in allowed


def test_pass_and_libvirts_hook_after_it(ovirt: Ovirt, guest: str) -> None:
    result = ovirt.begin(guest)
    status, said = judgement(result)
    assert (status, result["error"]) == (0, None)
    assert said.startswith("vfio-preflight: let pass here: pass: ")
    assert ovirt.pair.migrate(guest).returncode == 0
    assert ovirt.pair.where(guest) == MIGRATED
    assert ovirt.pair.annotation(guest).get("verdict") == "pass"


def test_refusal_in_the_words_of_libvirts_hook(ovirt: Ovirt, guest: str) -> None:
    ovirt.pair.present(ovirt.b, VF, OTHER_VSC)
    ovirt.add("10_first", "#!/bin/sh\nexit 0\n")
    ovirt.add("90_last", "#!/bin/sh\necho something else >&2\n")
    result = ovirt.begin(guest)
    assert [each["name"] for each in result["ran"]] == ["10_first", HOOK]
    status, said = judgement(result)
    assert (status, result["error"]) == (2, said)
    assert said.startswith(BLOCKED)
    # Without the shim libvirt's hook is asked, and says the same.
    ovirt.b.path(f"{POINT}/{HOOK}").unlink()
    assert ovirt.begin(guest)["error"] is None
    refused = ovirt.pair.migrate(guest).stderr
    assert said.splitlines()[0] in refused
    assert ovirt.pair.where(guest) == STAYED


@pytest.mark.parametrize(
    ("policy", "verdict"),
    [("fail = allow", "fail"), ("fail = mend\nvsc-tolerant = 10de:*", "fail")],
    ids=["allowed", "mended"],
)
def test_policy_decides(ovirt: Ovirt, guest: str, policy: str, verdict: str) -> None:
    ovirt.pair.present(ovirt.b, VF, OTHER_VSC)
    ovirt.pair.configure(f"[policy]\n{policy}\n")
    status, said = judgement(ovirt.begin(guest))
    assert status == 0 and said.startswith(f"vfio-preflight: let pass here: {verdict}: ")
    migrated = ovirt.pair.migrate(guest).returncode == 0
    assert migrated is ("mend" in policy)


def test_unknown_is_the_policys_as_well(ovirt: Ovirt) -> None:
    # Never recorded.
    guest = ovirt.pair.a.start_guest(guest_xml("ovirt02", OLD, [hostdev_pci(VF)]))
    status, said = judgement(ovirt.begin(guest))
    assert status == 0 and said.startswith("vfio-preflight: let pass here: unknown: ")
    ovirt.pair.configure("[policy]\nunknown = block\n")
    status, said = judgement(ovirt.begin(guest))
    assert status == 2 and said.startswith("vfio-preflight: migration blocked: ")


def test_guest_without_devices(ovirt: Ovirt) -> None:
    guest = ovirt.pair.a.start_guest(guest_xml("ovirt03", OLD))
    ovirt.pair.configure("[policy]\nunknown = block\n")
    assert judgement(ovirt.begin(guest)) == (0, "")


# --- a check that cannot be made never makes things worse than no hook ----------------------------


def test_xml_that_is_none(ovirt: Ovirt) -> None:
    for xml in ("", "<domain>", "no XML", "<domain/>", "<network/>"):
        status, said = judgement(ovirt.run(xml))
        assert status == 0 and "nothing was checked" in said and "/dev/stdin" in said, said


def test_configuration_that_is_broken(ovirt: Ovirt, guest: str) -> None:
    ovirt.pair.configure("[hook]\non-error = block\ndeadline = never\n")
    status, said = judgement(ovirt.begin(guest))
    assert (status, "'never' is not a number of seconds" in said) == (0, True)
    # on-error is that of libvirt's hook.
    assert "migration blocked" in ovirt.pair.migrate(guest).stderr


def test_sudo_that_does_not_allow_it(ovirt: Ovirt, guest: str) -> None:
    ovirt.b.path(SUDOERS).unlink()
    status, said = judgement(ovirt.begin(guest))
    assert status == 0 and "nothing was checked" in said and "sudo: a password is required" in said


def test_command_that_is_not_there(ovirt: Ovirt, guest: str, pair: Pair) -> None:
    command = pair.b.path("/usr/bin/vfio-preflight")
    kept = command.read_bytes()
    command.unlink()
    try:
        status, said = judgement(ovirt.begin(guest))
    finally:
        command.write_bytes(kept)
        command.chmod(0o755)
    assert status == 0 and "sudo: /usr/bin/vfio-preflight: command not found" in said


def test_vdsm_may_run_nothing_else(ovirt: Ovirt) -> None:
    for words in (
        ("check", "/etc/shadow", "--format", "json"),
        ("check", "/dev/stdin", "--format", "json", "--image", "/etc/shadow"),
        ("uninstall",),
        ("check", "/dev/stdin"),
    ):
        done = ovirt.b.run([*AS_VDSM, "/usr/bin/sudo", "-n", "/usr/bin/vfio-preflight", *words])
        assert (done.returncode, done.stderr) == (1, "sudo: a password is required\n"), words
