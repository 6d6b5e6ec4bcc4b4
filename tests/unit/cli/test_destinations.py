"""Other hosts: how they are reached, what their answers are, and how several are shown."""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path

import pytest

from unit.cli.command import Out, complaint, make_guest_file, printed_json
from unit.domains import KEY, make_domain
from unit.gather.test_hostfacts import make_host
from unit.makers import (
    HOST,
    VSC_BODY,
    differing,
    make_facts,
    make_host_device,
    make_inventory,
    make_state,
)
from vfio_preflight.cli import destinations, dryrun, elsewhere, host, leftovers, remote
from vfio_preflight.cli.connection import LibvirtError
from vfio_preflight.cli.main import main
from vfio_preflight.cli.sshuri import ALWAYS, Ssh
from vfio_preflight.cli.workers import Answer
from vfio_preflight.configuration import Configuration
from vfio_preflight.errors import PreflightError
from vfio_preflight.gather.hostjson import to_json
from vfio_preflight.judge.model import preflight
from vfio_preflight.judge.policy import Decision
from vfio_preflight.pci.state import State
from vfio_preflight.report.schema import as_dict

# --- libvirt's URIs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "program", "before", "after", "name"),
    [
        ("qemu+ssh://b/system", "ssh", [], [], "b"),
        ("qemu+ssh://root@B.lan:2222/system", "ssh", ["-p", "2222", "-l", "root"], [], "B.lan"),
        ("qemu+ssh://us%40er@b/system", "ssh", ["-l", "us@er"], [], "b"),
        ("qemu+ssh://[fe80::1]/system", "ssh", [], [], "fe80::1"),
        ("qemu+ssh://b/system?keyfile=/k%20ey&no_tty=1", "ssh", ["-i", "/k ey"], [], "b"),
        ("qemu+ssh://b/system?no_verify=1", "ssh", [], ["StrictHostKeyChecking=no"], "b"),
        ("qemu+ssh://b/system?no_verify=0", "ssh", [], [], "b"),
        ("qemu+ssh://b/system?command=/opt/ssh", "/opt/ssh", [], [], "b"),
        # Of these libvirt's ssh takes no notice.
        ("qemu+ssh://b/system?known_hosts=/kh&sshauth=agent", "ssh", [], [], "b"),
        ("qemu+libssh2://b/system?known_hosts=/kh", "ssh", [], ["UserKnownHostsFile=/kh"], "b"),
        ("qemu+libssh://b/system?known_hosts_verify=auto", "ssh", [],
         ["StrictHostKeyChecking=accept-new"], "b"),
        ("qemu+libssh://b/system?sshauth=agent,privkey,password", "ssh", [],
         ["PreferredAuthentications=publickey,password"], "b"),
        ("qemu+libssh://b/system?command=/opt/ssh", "ssh", [], [], "b"),
    ],
)  # fmt: skip
def test_ssh(uri: str, program: str, before: list[str], after: list[str], name: str) -> None:
    ssh = Ssh.of(uri)
    assert ssh is not None
    options = [word for option in after for word in ("-o", option)]
    assert ssh.arguments("true") == [program, *before, *ALWAYS, *options, "--", name, "true"]


@pytest.mark.parametrize(
    "uri",
    ["qemu:///system", "qemu+tls://b/system", "qemu+unix:///system?socket=/s", "qemu+ssh:///"],
)
def test_not_by_ssh(uri: str) -> None:
    assert Ssh.of(uri) is None


def test_uri_that_is_none() -> None:
    with pytest.raises(LibvirtError, match="not a URI"):
        Ssh.of("qemu+ssh://b:port/system")


@pytest.mark.parametrize(
    ("uri", "quiet"),
    [
        ("qemu+ssh://b/system", "qemu+ssh://b/system?no_tty=1"),
        ("qemu+ssh://b/system?keyfile=/k", "qemu+ssh://b/system?keyfile=/k&no_tty=1"),
        ("qemu+ssh://b/system?no_tty=0", "qemu+ssh://b/system?no_tty=0"),
        ("qemu+tls://b/system", "qemu+tls://b/system"),
    ],
)
def test_several_are_asked_without_a_terminal(uri: str, quiet: str) -> None:
    assert destinations._quiet(uri) == quiet


# --- facts over ssh -------------------------------------------------------------------------------


def pretend(tmp_path: Path, script: str) -> Ssh:
    """An ssh that is a script, which libvirt lets a URI name."""
    program = tmp_path / "ssh"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    ssh = Ssh.of(f"qemu+ssh://b/system?command={program}")
    assert ssh is not None
    return ssh


def test_facts_of(tmp_path: Path) -> None:
    (tmp_path / "facts").write_text(to_json(make_host()))
    ssh = pretend(tmp_path, f'for last; do :; done; echo "$last" >{tmp_path}/asked\n'
                            f"cat {tmp_path}/facts")  # fmt: skip
    assert remote.facts_of(ssh, "/opt/a b").host == "b"
    asked = (tmp_path / "asked").read_text()
    assert asked == "vfio-preflight host --format json --emulator '/opt/a b'\n"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo x >&2; echo 'no route \033[1m' >&2; exit 255", r"ssh to b fails: no route \?\[1m"),
        ("exit 255", "ssh to b fails: it says nothing"),
        ("exit 127", "b has no vfio-preflight command"),
        ("echo \"invalid choice: 'host'\" >&2; exit 2", "does not know 'host': upgrade it"),
        ("echo oops >&2; exit 1", r"fails on b \(status 1\): oops"),
        ("echo '{\"schema\": 0}'", "upgrade vfio-preflight there"),
        ("echo Welcome", "not JSON"),
    ],
)
def test_no_facts(tmp_path: Path, script: str, why: str) -> None:
    with pytest.raises(PreflightError, match=why):
        remote.facts_of(pretend(tmp_path, script), "")


def test_facts_that_take_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "WITHIN", 0.1)
    with pytest.raises(PreflightError, match="did not answer over ssh"):
        remote.facts_of(pretend(tmp_path, "exec sleep 60"), "")


# --- facts in a file ------------------------------------------------------------------------------


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Configuration) -> str:
    """A file of the guest with a record of its device."""
    monkeypatch.setattr(elsewhere, "load", lambda: settings)
    path = tmp_path / "g1.xml"
    path.write_bytes(make_domain({KEY: make_state()}))
    return str(path)


def facts_file(tmp_path: Path, **changes: object) -> str:
    path = tmp_path / "b.json"
    facts = make_host(**changes)  # type: ignore[arg-type]
    path.write_text(to_json(facts))
    return f"--destination-facts={path}"


@pytest.mark.parametrize(
    ("state", "hook", "status", "action"),
    [
        (None, True, 0, "annotate"),
        (None, False, 0, None),
        (differing(VSC_BODY), True, 1, "block"),
        (differing(VSC_BODY), False, 1, None),
    ],
)
def test_destination_facts(
    guest: str,
    state: State | None,
    hook: bool,
    status: int,
    action: str | None,
    tmp_path: Path,
    capsys: Out,
) -> None:
    facts = facts_file(tmp_path, state=state, hook=hook)
    assert main(["check", guest, facts, "--format", "json"]) == status
    report = printed_json(capsys)
    assert report["action"] == action
    assert report["note"] == "judged here, by the facts of b of 2026-11-28T10:00:00Z"


def test_destination_facts_tell_what_is_in_use(guest: str, tmp_path: Path, capsys: Out) -> None:
    inventory = make_inventory(make_host_device(holder="guest g2 (process 4)"))
    assert main(["check", guest, facts_file(tmp_path, inventory=inventory)]) == 1
    assert f"{HOST} is in use there by guest g2 (process 4)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "option", ["--to=qemu:///system", "--trial", "--destination-state=hostdev0=x"]
)
def test_what_does_not_go_with_facts(option: str, tmp_path: Path, capsys: Out) -> None:
    arguments = ["check", make_guest_file(tmp_path), facts_file(tmp_path), option]
    assert "do not go together" in complaint(arguments, capsys)


def test_facts_that_cannot_be_read(guest: str, tmp_path: Path, capsys: Out) -> None:
    assert "No such file" in complaint(["check", guest, "--destination-facts", "/none"], capsys)
    (tmp_path / "b.json").write_text("x")
    facts = f"--destination-facts={tmp_path}/b.json"
    assert "not JSON" in complaint(["check", guest, facts], capsys)


def test_host(monkeypatch: pytest.MonkeyPatch, capsys: Out) -> None:
    monkeypatch.setattr(host, "host_facts", lambda *_args: make_host())
    assert main(["host", "--format", "json"]) == 0
    assert capsys.readouterr().out == f"{to_json(make_host())}\n"
    assert main(["host"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "host b: Linux 6.12.1 (x86_64), libvirt 11.3.0"
    (device,) = [line.split() for line in lines if line.startswith(HOST)]
    assert device == [HOST, "10de:1eb8", "vendor_vfio_pci", "17", "1", "sysfs", "nobody"]


# --- several --------------------------------------------------------------------------------------

REPORT = as_dict(preflight(make_facts()), Decision("annotate"))
FAILED = as_dict(preflight(make_facts(differing(VSC_BODY))), Decision("block"))
UNKNOWN = {**REPORT, "verdict": "unknown"}
DOWN = Answer(None, "cannot connect to x:\nConnection refused")


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ([Answer(REPORT), Answer(REPORT)], 0),
        ([Answer(REPORT), DOWN], 3),
        ([Answer(REPORT), Answer(UNKNOWN)], 3),
        ([Answer(FAILED), DOWN, Answer(REPORT)], 1),
    ],
)
def test_status_is_the_worst(answers: list[Answer], status: int, capsys: Out) -> None:
    rows = [(f"qemu+ssh://h{n}/system", answer) for n, answer in enumerate(answers)]
    assert destinations._show(rows, "text") == status
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["destination", "verdict", "why"]
    assert [line.split()[0] for line in lines] == [uri for uri, _ in rows]
    assert destinations._show(rows, "json") == status


def test_row_says_why(capsys: Out) -> None:
    destinations._show([("qemu+ssh://b/system", Answer(FAILED)), ("qemu+ssh://c/system", DOWN)], "")
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split()[1] == "FAIL" and "offset 0x63" in first
    assert second.endswith("NO ANSWER  cannot connect to x: Connection refused")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("count", "shown"), [(1, False), (3, True)])
def test_progress_on_a_terminal(count: int, shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = destinations._Progress(["x"] * count)
    for done in range(count):
        progress(done + 1)
    assert ("2 of 3 destinations asked" in terminal.getvalue()) == shown
    # The line is removed at the end.
    assert terminal.getvalue().endswith("\r\033[K") == shown


# --- what was left behind -------------------------------------------------------------------------


def test_own_stand_in_is_no_leftover() -> None:
    marks = leftovers.marks()
    assert not leftovers.is_left(marks["maker"], marks["made"], time.time())


def test_stand_in_of_a_process_that_is_gone() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    maker = leftovers.marks()["maker"].replace(f"/{os.getpid()}/", f"/{pid}/")
    os.waitpid(pid, 0)
    now = time.time()
    assert leftovers.is_left(maker, str(int(now)), now)
    # Another process may have the number since.
    reused = leftovers.marks()["maker"].rpartition("/")[0] + "/1"
    assert leftovers.is_left(reused, str(int(now)), now)


@pytest.mark.parametrize("maker", ["", "boot/pid:[1]/7/8", "x/y", "a/b/c/d"])
@pytest.mark.parametrize(
    ("age", "left"), [(0, False), (leftovers.OLD - 1, False), (leftovers.OLD + 9, True)]
)
def test_stand_in_of_another_machine_is_left_when_old(maker: str, age: int, left: bool) -> None:
    now = time.time()
    assert leftovers.is_left(maker, str(int(now - age)), now) == left


def test_stand_in_without_a_time_stays() -> None:
    assert not leftovers.is_left("", "", time.time())


def test_stand_in_is_marked() -> None:
    xml = make_domain({KEY: make_state()}).decode()
    text = dryrun.stand_in_xml(xml, "11111111-2222-3333-4444-555555555555", 0)
    assert f'maker="{leftovers.marks()["maker"]}"' in text
