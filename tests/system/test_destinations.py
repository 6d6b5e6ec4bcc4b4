"""``check --to`` over real sshds: several hosts side by side, of which some do not answer."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from lab import FakeDevice, Host, guest_xml, hostdev_mdev, hostdev_pci
from lab.host import child_of
from lab.ssh import SshNetwork

from .pair import CONFIG, NEW, OLD, OTHER_VSC, VF, Pair
from .service import wait

PROBE = "vfio-preflight-probe-"
COMMAND = "/usr/bin/vfio-preflight"
HOOK = "/etc/libvirt/hooks/qemu.d/50-vfio-preflight"
SLOW = "#!/bin/sh\nsleep 4\n"
# Accepts connections, and says nothing: ssh waits for the banner.
SILENT = """
import socket, time
server = socket.create_server(("127.0.0.1", 2299))
print("ready", flush=True)
time.sleep(600)
"""
# By ssh's own words, without libvirt's around them.
UNREACHABLE = {
    "down": "ssh: connect to host 127.0.0.1 port 2290: Connection refused",
    "wrong": "root@127.0.0.1: Permission denied (publickey).",
    "changed": "Host key for lab-c has changed and you have requested strict checking."
               " Host key verification failed.",
}  # fmt: skip
OLD_FACTS = '#!/bin/sh\necho \'{"schema": 0, "host": "d", "devices": []}\'\n'


def uri(name: str) -> str:
    return f"qemu+ssh://lab-{name}/system"


class Hosts(NamedTuple):
    """Besides the pair: c has libvirt alone, d a vfio-preflight of long ago, without hook."""

    pair: Pair
    c: Host
    d: Host

    def check(self, *names: str, json_: bool = True) -> subprocess.CompletedProcess[str]:
        form = ["--format", "json"] if json_ else []
        return self.pair.a.run(self.command(*names, *form))

    def command(self, *words: str) -> list[str]:
        to = [word if word.startswith(("-", "json")) else f"--to={uri(word)}" for word in words]
        return [COMMAND, "check", "asked", *to]


@pytest.fixture(scope="module")
def network(hosts: Pair) -> Iterator[Hosts]:
    c, d = hosts.lab.add_host("c"), hosts.lab.add_host("d")
    for host in c, d:
        host.add_device(FakeDevice(VF, "vf", CONFIG))
    d.path(COMMAND).write_text(OLD_FACTS)
    d.path(COMMAND).chmod(0o755)
    with SshNetwork(hosts.a) as network:
        for host in hosts.b, c, d:
            network.serve(host)
        network.name("lab-down", port=2290)
        network.name("lab-silent", port=2299)
        network.name("lab-wrong", d, key="lab_other_key", port=2203)
        # Known by the key of another host.
        network.name("lab-changed", c, port=2203)
        yield Hosts(hosts, c, d)


@pytest.fixture
def asked(network: Hosts, pair: Pair) -> Iterator[Hosts]:
    """A running guest to ask about; nothing is left on any host afterwards."""
    pair.start(guest_xml("asked", OLD, [hostdev_pci(VF)]))
    yield network
    assert left(network) == []


def left(hosts: Hosts) -> list[str]:
    """Stand-ins on any host, and ssh processes on the one that asked."""
    found = [
        f"{host.name}: {name}"
        for host in (hosts.pair.a, hosts.pair.b, hosts.c, hosts.d)
        for name in host.virsh("list", "--all", "--name").stdout.split()
        if name.startswith(PROBE)
    ]
    return found + [f"ssh {pid}" for pid in hosts.pair.a.processes("ssh")]


def by_destination(text: str) -> dict[str, dict[str, Any]]:
    return {row["destination"]: row for row in json.loads(text)}


def test_several_hosts(asked: Hosts) -> None:
    names = ("b", "c", "d", "down", "wrong", "changed")
    result = asked.check(*names)
    assert result.returncode == 3, result.stdout + result.stderr
    rows = by_destination(result.stdout)
    assert list(rows) == [uri(name) for name in names]
    assert rows[uri("b")]["verdict"] == "pass"
    for name, why in (
        ("c", "lab-c has no vfio-preflight command"),
        ("d", "lab-d: the facts have schema 0, and this vfio-preflight reads 1: upgrade"
              " vfio-preflight there"),
    ):  # fmt: skip
        (finding,) = rows[uri(name)]["findings"]
        assert finding["code"] == "destination-unknown"
        assert finding["text"] == (f"no hook answers there; nor can its facts be had: {why}")
    for name, why in UNREACHABLE.items():
        assert rows[uri(name)]["error"] == f"cannot connect to {uri(name)}: {why}"


def test_several_hosts_as_a_table(asked: Hosts) -> None:
    result = asked.check("b", "c", "d", *UNREACHABLE, json_=False)
    assert (result.returncode, result.stderr) == (3, "")
    head, *rows = (re.split(r" {2,}", line) for line in result.stdout.splitlines())
    assert head == ["destination", "verdict", "why"]
    nobody = "no hook answers there; nor can its facts be had: "
    advice = "; to do: install vfio-preflight there"
    assert rows[1:] == [
        [uri("c"), "UNKNOWN", f"{nobody}lab-c has no vfio-preflight command{advice}"],
        [uri("d"), "UNKNOWN", f"{nobody}lab-d: the facts have schema 0, and this vfio-preflight"
                              f" reads 1: upgrade vfio-preflight there{advice}"],
        *([uri(name), "NO ANSWER", why] for name, why in UNREACHABLE.items()),
    ]  # fmt: skip
    assert rows[0][:2] == [uri("b"), "PASS"]


def test_worst_of_several_is_a_refusal(asked: Hosts) -> None:
    asked.pair.present(asked.pair.b, VF, OTHER_VSC)
    result = asked.check("b", "down")
    assert result.returncode == 1
    assert by_destination(result.stdout)[uri("b")]["verdict"] == "fail"


def test_one_over_ssh(asked: Hosts) -> None:
    result = asked.check("b")
    assert (result.returncode, json.loads(result.stdout)["verdict"]) == (0, "pass")
    result = asked.check("wrong")
    assert (result.returncode, "Permission denied" in result.stderr) == (2, True)


@pytest.mark.parametrize(("config", "status"), [(CONFIG, 0), (OTHER_VSC, 1)])
def test_facts_where_there_is_no_hook(asked: Hosts, config: bytes, status: int) -> None:
    """b has the command, and its hook was removed."""
    b = asked.pair.b
    hook = b.path(HOOK)
    kept = hook.read_bytes()
    hook.unlink()
    try:
        asked.pair.present(b, VF, config)
        result = asked.check("b")
        report = json.loads(result.stdout)
        assert result.returncode == status, report
        assert report["action"] is None
        assert report["note"].startswith("judged here, by the facts of lab-b of ")
        assert report["devices"][0]["destination"]["evidence"] == "sysfs"
    finally:
        hook.write_bytes(kept)
        hook.chmod(0o755)


def test_facts_in_a_file(asked: Hosts) -> None:
    facts = asked.pair.b.run([COMMAND, "host", "--format", "json"])
    assert facts.returncode == 0, facts.stderr
    asked.pair.a.path("/etc/b.json").write_text(facts.stdout)
    command = [COMMAND, "check", "asked", "--destination-facts", "/etc/b.json"]
    result = asked.pair.a.run([*command, "--format", "json"])
    report = json.loads(result.stdout)
    assert (result.returncode, report["verdict"]) == (0, "pass")
    asked.pair.present(asked.pair.b, VF, OTHER_VSC)
    facts = asked.pair.b.run([COMMAND, "host", "--format", "json"])
    asked.pair.a.path("/etc/b.json").write_text(facts.stdout)
    result = asked.pair.a.run([*command, "--format", "json"])
    report = json.loads(result.stdout)
    # The same as the hook there says.
    assert (result.returncode, report["devices"][0]["qemu"]) == (
        1, asked.pair.check("asked").report["devices"][0]["qemu"],
    )  # fmt: skip


def test_device_that_is_not_there(asked: Hosts) -> None:
    """The hook of b tells what is missing; a migration would be left to libvirt."""
    pair = asked.pair
    other = "d1d1d1d1-1111-4222-8333-444455556666"
    pair.a.add_device(FakeDevice(other, "mdev", CONFIG))
    guest = pair.a.define(guest_xml("lacking", NEW, [hostdev_mdev(other)]))
    answer = pair.check(guest)
    pair.a.virsh("undefine", guest)
    (found,) = [f for f in answer.report["devices"][0]["findings"] if f["code"] == "device-absent"]
    assert answer.status == 3
    assert f"mdevctl start -u {other} -p 0000:41:00.0 -t " in found.get("remedy", ""), found


# --- killed ---------------------------------------------------------------------------------------


@pytest.fixture
def slow(asked: Hosts) -> Iterator[Hosts]:
    """b's hook takes its time, and another host never says anything."""
    hook = asked.pair.b.path("/etc/libvirt/hooks/qemu.d/10-slow")
    hook.write_text(SLOW)
    hook.chmod(0o755)
    silent = asked.pair.a.popen(["/usr/bin/python3", "-c", SILENT])
    assert silent.stdout is not None and silent.stdout.readline() == "ready\n"
    try:
        yield asked
    finally:
        hook.unlink()
        os.kill(child_of(silent), signal.SIGKILL)
        silent.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("names", [("b",), ("b", "silent", "c")], ids=["one", "several"])
def test_killed(slow: Hosts, names: tuple[str, ...], number: signal.Signals) -> None:
    process = slow.pair.a.popen(slow.command(*names))
    wait(lambda: any(PROBE in entry for entry in left(slow)))
    os.kill(child_of(process), number)
    out, _err = process.communicate(timeout=30)
    assert (process.returncode != 0, out) == (True, "")
    stood_in = [entry for entry in left(slow) if PROBE in entry]
    # Killed itself, it can see to nothing; its workers do.
    assert number == signal.SIGKILL or stood_in == []
    wait(lambda: left(slow) == [])


def test_what_was_left_is_removed_by_the_next(slow: Hosts) -> None:
    """Every process of the check is killed at once, so that nobody can clean up."""
    a = slow.pair.a
    process = a.popen(slow.command("b"))
    wait(lambda: any(PROBE in entry for entry in left(slow)))
    for pid in a.run(["/usr/bin/pgrep", "-f", "vfio-preflight check"]).stdout.split():
        a.run(["/bin/sh", "-c", f"kill -KILL {pid}"])
    process.communicate(timeout=30)
    wait(lambda: not slow.pair.a.processes("ssh"))
    assert any(PROBE in entry for entry in left(slow))
    assert slow.check("b").returncode == 0
    assert left(slow) == []
