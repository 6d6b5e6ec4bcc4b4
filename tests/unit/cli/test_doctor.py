"""What ``doctor`` makes of what it sees; on real hosts: system/test_doctor.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from vfio_preflight.cli import doctor
from vfio_preflight.cli.diagnosis import (
    checks,
    devices,
    entry,
    guests,
    here,
    neighbours,
    selftest,
    service,
    settings,
)
from vfio_preflight.cli.diagnosis.checks import CHECKS, SELF_TEST, Check, diagnose
from vfio_preflight.cli.diagnosis.faults import BY_CODE
from vfio_preflight.cli.diagnosis.finding import (
    Fact,
    Fault,
    Found,
    Problem,
    Shell,
    UnseenError,
    problem_of,
)
from vfio_preflight.cli.diagnosis.here import Here
from vfio_preflight.cli.installation import labels, payload, reload
from vfio_preflight.cli.main import main
from vfio_preflight.configuration import Configuration, parse
from vfio_preflight.errors import PreflightError
from vfio_preflight.guest.domain import Guest
from vfio_preflight.hook import audit

if TYPE_CHECKING:
    from vfio_preflight.cli.diagnosis.finding import Value

SHIPPED = (Path(__file__).parents[3] / "etc/vfio-preflight.conf").read_text()


def look(function: object, *arguments: Here) -> list[Found]:
    assert callable(function)
    return [each for each in function(*arguments) if isinstance(each, Found)]


# --- the configuration ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "[policy]\nfial = block\n",
        "[policy]\nfail = maybe\n[hook]\ndeadline = soon\nlog = here\n",
        "[plicy]\nfail = block\nunknown = block\n[hook]\ndeadline = 5\n",
        "fail = block\n",
        "[policy]\nfail\n",
        "[policy]\nfail = block\nfail = allow\n[policy]\nunknown = block\n",
        "[policy]\nfail = block\n  more\n",
        "[hook]\nlog = syslog # \udcff\n",
        "[hook]\n  deadline = 5\n  log = nowhere\n",
        "  [policy]\n\tfail = x\n",
        "[policy]\nFail = x\nVSC-tolerant = y\n",
        "[policy\nfail = block\n",
        "[a]\n[b]\n[policy]\n= x\n",
        SHIPPED.replace("#fail", "fail").replace("fail =", "fail = no,") + "\n[x]\ny = z\n",
    ],
)
def test_edits_make_any_configuration_valid(text: str, tmp_path: Path) -> None:
    """By the real sed, on the very line that is printed."""
    path = tmp_path / "etc/vfio-preflight.conf"
    path.parent.mkdir()
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    (problem,) = [
        problem_of(BY_CODE[each.code], each.values)
        for each in look(settings.configuration, Here(Configuration(), str(tmp_path)))
        if each.code != "configuration-open"
    ]
    assert problem.code == "configuration-invalid", problem
    assert problem.text.isprintable() and problem.command.isprintable()
    subprocess.run(["/bin/sh", "-c", problem.command], check=True)
    parse(path.read_text())


def test_what_is_right_stays(tmp_path: Path) -> None:
    text = "[policy]\nfail = mend\nunknown = perhaps\n[hook]\ndeadline = 5\n"
    edits = settings.edits_for(text, "x")
    assert edits == {3: settings.COMMENT}


def test_a_valid_one_needs_none() -> None:
    assert settings.edits_for(SHIPPED, "x") == {}


VALID = [
    "",
    "[policy]\nunknown = block",
    "\ufeff[hook]\ndeadline = 0.1\n[policy]\nunknown = block\n",
    " [hook]\ndeadline = 5\n",
    "[hook]\nDeadline = 0.1\n",
    "[policy]\nfail = mend\n[hook]\nlog = syslog\nopen-devices = 1234:5678\n   4321:*\n# x\n",
    "[hook]\nopen-devices = a\n  b\n  c\nlog = none\n[paths]\nstates = /s\n",
    "[hook]\r\ndeadline = 0.1\r\n[policy]\r\nfail = allow\r\n",
    "[hook] # ours\ndeadline = 7 # seconds\n",
    "[hook]",
    SHIPPED,
]


@pytest.mark.parametrize("text", VALID)
@pytest.mark.parametrize(("key", "value"), [("deadline", "12"), ("open-devices", "10de:* a-1")])
def test_a_key_is_set_in_any_valid_configuration(
    key: str, value: str, text: str, tmp_path: Path
) -> None:
    """By the real sed, on the very line that is printed; everything else stays as it was."""
    path = tmp_path / "etc/vfio-preflight.conf"
    path.parent.mkdir()
    path.write_bytes(text.encode())
    command = here.configured(Here(Configuration(), str(tmp_path)), key, value).text
    subprocess.run(["/bin/sh", "-c", command], check=True)
    before, after = (parse(each.removeprefix("\ufeff")) for each in (text, path.read_text()))
    if key == "deadline":
        assert after == before._replace(deadline=12.0)
    else:
        assert after == before._replace(open_devices=("10de:*", "a-1"))


def test_a_key_is_set_where_there_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    command = here.configured(Here(Configuration(), str(tmp_path)), "deadline", "12").text
    subprocess.run(["/bin/sh", "-c", command], check=True)
    assert parse((tmp_path / "etc/vfio-preflight.conf").read_text()).deadline == 12


def test_a_key_is_not_set_where_that_would_break_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "etc/vfio-preflight.conf"
    path.parent.mkdir()
    for text in (b"[hook]\ndeadline = soon\n", b"[policy]\n# \xff\n"):
        path.write_bytes(text)
        with pytest.raises(UnseenError):
            here.configured(Here(Configuration(), str(tmp_path)), "open-devices", "a")


# --- guests --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["12", " 3", "+4", "0" * 36, "a\nb", "\u00e9"])
def test_guest_that_virsh_would_take_for_another(name: str) -> None:
    uuid = "a6073777-cd88-4b42-b17b-5c31353b072f"
    guest = Guest(name, uuid, "", "", "", "", (), (), express=True, metadata=None)
    (told,) = guests._told(guest, [], ["hostdev0"])
    command = problem_of(BY_CODE[told.code], told.values).command
    assert f"virsh shutdown --domain={uuid} " in command


# --- directories ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("look_at", "way"),
    [
        (entry.file, "etc/libvirt/hooks/qemu.d"), (entry.file, "etc/libvirt/hooks"),
        (settings.rules, "etc/vfio-preflight"),
        (settings.rules, "etc/vfio-preflight/vendor-rules.d"),
        (devices.directories, "var/lib/vfio-preflight"),
        (devices.directories, "var/cache/vfio-preflight"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["file", "loop"])
def test_something_else_on_the_way_to_a_directory(
    look_at: object, way: str, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / way
    path.parent.mkdir(parents=True)
    if kind == "file":
        path.touch()
    else:
        path.symlink_to(path.name)
    # Who made tmp_path, and how open it is, is another fault.
    told = look(look_at, Here(Configuration(), str(tmp_path)))
    (problem,) = {
        problem_of(BY_CODE[each.code], each.values)
        for each in told
        if each.code == "directory-none"
    }
    assert str(path) in problem.text
    subprocess.run(["/bin/sh", "-c", problem.command], check=True)
    assert path.is_dir()


# --- other hooks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "is_copy"),
    [
        ("50-vfio-preflight~", True), ("10-x.bak", True), ("10-x.dpkg-old", True),
        ("10-x.rpmsave", True), (".10-x.swp", True), ("#10-x#", True), ("10-x.BAK2", True),
        ("10-x.ucf-dist", True), ("10-x-old", True), ("a\nb.orig", True),
        ("10-x", False), ("qemu", False), ("backup", False), ("10-x.sh", False),
        ("10-x.backup", True), ("10-x.off", True),
        ("90-vm-backup", False), ("10-power-off", False), ("30-cpu-temp", False),
        ("20-hold", False), ("30-restore.py", False), ("40-copying", False),
    ],
)  # fmt: skip
def test_names_of_copies(name: str, is_copy: bool) -> None:
    assert neighbours.is_copy(f"/nowhere/{name}") == is_copy


def test_name_that_is_a_copy_beside_what_it_is_of(tmp_path: Path) -> None:
    (tmp_path / "10-power").touch()
    assert neighbours.is_copy(str(tmp_path / "10-power-off"))


def test_hooks_are_told_in_their_order(tmp_path: Path) -> None:
    directory = tmp_path / "etc/libvirt/hooks/qemu.d"
    directory.mkdir(parents=True)
    for path, text in ((directory.parent / "qemu", "# CloudStack"), (directory / "60-x", "vdsm"),
                       (directory / "50-vfio-preflight", "x")):  # fmt: skip
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    (directory / "README").write_text("no hook")
    (told,) = [
        each.value
        for each in neighbours.order(Here(Configuration(), str(tmp_path)))
        if isinstance(each, Fact)
    ]
    assert [each["of"] for each in told] == ["CloudStack", "vfio-preflight", "oVirt"]
    assert len(neighbours.others(Here(Configuration(), str(tmp_path)))) == 2


def test_a_later_hook_gets_an_earlier_name(tmp_path: Path) -> None:
    assert selftest._earlier("/d/60-x") == "/d/49-60-x"
    assert "49-60-x" < "50-vfio-preflight"


# --- SELinux -------------------------------------------------------------------------------------


def test_wrong_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a restorecon of the test's: no kernel with SELinux is at hand."""
    marker, program = tmp_path / "relabelled", tmp_path / "restorecon"
    program.write_text(
        f"#!/bin/sh\n[ -e {marker} ] && exit 0\n"
        f'[ "$1" != -n ] && exec touch {marker}\necho "Would relabel $4 from a to b"\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(labels, "SELINUX", str(tmp_path))
    monkeypatch.setattr(labels, "RESTORECON", (str(program),))
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/vfio-preflight").touch()
    host = Here(Configuration(), str(tmp_path))
    (found,) = look(entry.label, host)
    problem = problem_of(BY_CODE[found.code], found.values)
    assert f"Would relabel {tmp_path}/usr/bin/vfio-preflight" in problem.text
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", "-c", problem.command], check=True, env=environment)
    assert look(entry.label, host) == []


def test_host_without_selinux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "SELINUX", str(tmp_path / "none"))
    assert look(entry.label, Here(Configuration(), str(tmp_path))) == []


# --- libvirt's look for hooks --------------------------------------------------------------------


@pytest.fixture
def managed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    """A host with systemd, whose libvirtd has run for an hour; it found no hook."""
    hook = tmp_path / "etc/libvirt/hooks/qemu"
    hook.parent.mkdir(parents=True)
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "proc/77").mkdir(parents=True)
    (tmp_path / "proc/77/cgroup").write_text("0::/system.slice/libvirtd.service\n")
    daemon = reload.Daemon("libvirtd", 77, time.time() - 3600, "77-1")
    monkeypatch.setattr(reload, "daemons", lambda _root: [daemon])
    yield Here(Configuration(), str(tmp_path))


@pytest.mark.parametrize(
    ("seconds", "pending"), [(None, True), (-7200.0, True), (-5.0, True), (5.0, False)]
)
def test_reload_by_systemd_is_seen(
    seconds: float | None, pending: bool, managed: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As systemd 239 to 257 print it."""
    moment = time.gmtime(time.time() + seconds) if seconds else None
    stamp = time.strftime("%a %Y-%m-%d %H:%M:%S UTC", moment) if moment else "n/a"
    text = (
        "ExecReload={ path=/bin/kill ; argv[]=/bin/kill -HUP $MAINPID ; ignore_errors=no ;"
        f" start_time=[{stamp}] ; stop_time=[{stamp}] ; pid=9 ; code=exited ; status=0 }}\n"
    )
    done = subprocess.CompletedProcess[str]([], 0, text, "")
    monkeypatch.setattr(entry, "answer", lambda *_words: done)
    found = look(entry.reloaded, managed)
    assert bool(found) == pending
    if pending:
        assert found[0].values["reload"] == Shell("systemctl reload libvirtd.service")


@pytest.mark.parametrize(
    ("active", "state", "pending"),
    [(-60.0, -60.0, True), (-60.0, -50.0, True), (-60.0, 5.0, False), (None, 5.0, True)],
)
def test_reload_is_seen_after_a_daemon_reload(
    active: float | None,
    state: float,
    pending: bool,
    managed: Here,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With that the time of the command is lost; seconds are those since the hook was made."""
    now = time.clock_gettime(time.CLOCK_MONOTONIC)

    def stamp(seconds: float | None) -> int:
        return 0 if seconds is None else int((now + seconds) * 1e6)

    text = (
        "ExecReload={ path=/bin/kill ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 }\n"
        f"ActiveEnterTimestampMonotonic={stamp(active)}\n"
        f"StateChangeTimestampMonotonic={stamp(state)}\n"
    )
    done = subprocess.CompletedProcess[str]([], 0, text, "")
    monkeypatch.setattr(entry, "answer", lambda *_words: done)
    assert bool(look(entry.reloaded, managed)) == pending


# --- the host ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "becomes"),
    [("8.0.0", "keeps"), ("9.0.0", "keeps"), ("10.0.0", "may delete"), ("11.3.0", "deletes"),
     ("11.3.1", "deletes"), ("11.9.0", "may delete"), ("12.8.0", "keeps"), ("13.0.0", "keeps"),
     ("", "")],
)  # fmt: skip
def test_what_becomes_of_a_managed_save(release: str, becomes: str) -> None:
    assert devices.becomes_of_saves(release) == becomes


def test_emulators_are_the_usual_ones_and_the_guests(tmp_path: Path) -> None:
    host = Here(Configuration(), str(tmp_path))
    with pytest.raises(UnseenError):
        devices.emulators_of(host)
    for path in ("usr/bin/qemu-system-x86_64", "opt/qemu/bin/qemu", "opt/qemu/bin/other"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    guests = tmp_path / "etc/libvirt/qemu"
    guests.mkdir(parents=True)
    (guests / "a.xml").write_text("<domain><emulator>/opt/qemu/bin/qemu</emulator></domain>")
    (guests / "b.xml").write_text("<domain><emulator>/nowhere/qemu</emulator></domain>")
    assert [*devices.emulators_of(host).values()] == [
        "/usr/bin/qemu-system-x86_64",
        "/opt/qemu/bin/qemu",
    ]


def test_host_without_libvirt(tmp_path: Path) -> None:
    with pytest.raises(UnseenError, match="nobody calls the hook"):
        look(devices.libvirt, Here(Configuration(), str(tmp_path)))


def test_commands_of_package_managers(tmp_path: Path) -> None:
    host = Here(Configuration(), str(tmp_path))
    assert here.install(host, "x").text.startswith("# install with")
    for program, command in (
        ("zypper", "zypper --non-interactive install --force x y"),
        ("dnf", "dnf install -y x y && dnf reinstall -y x y"),
        ("apt-get", "apt-get install -y --reinstall x y"),
    ):
        path = tmp_path / "usr/bin" / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o755)
        assert here.install(host, "x", "y") == Shell(command)


def test_setting_a_key(tmp_path: Path) -> None:
    path = tmp_path / "etc/vfio-preflight.conf"
    path.parent.mkdir()
    host = Here(Configuration(), str(tmp_path))
    for text in (
        "", "[hook]\n", "[policy]\nfail = block\n[hook]\n deadline = 3 # s\n", SHIPPED,
        "[hook]\nsecond-gate-deadline = 2\n",
    ):  # fmt: skip
        path.write_text(text)
        command = here.configured(host, "deadline", "77").text
        subprocess.run(["/bin/sh", "-c", command], check=True)
        assert parse(path.read_text()) == parse(text)._replace(deadline=77.0)


def test_nothing_foreign_is_set(tmp_path: Path) -> None:
    for value in ("a\nb", "$(id)", "a'b", "a/;w x", "", "\x1b"):
        with pytest.raises(UnseenError):
            here.configured(Here(Configuration(), str(tmp_path)), "open-devices", value)


# --- what is told --------------------------------------------------------------------------------


def test_foreign_text_is_printable() -> None:
    fault = Fault("x", "{path} and {words}", "cat {path} {words} {more}")
    values: dict[str, Value] = {
        "path": "/a\x1b[0m\n",
        "words": ("b c", "d"),
        "more": Shell("| less"),
    }
    problem = problem_of(fault, values)
    assert problem.text == "/a?[0m? and b c (missing), d (missing)"
    assert problem.command.isprintable() and problem.command.endswith("'b c' d | less")


def test_command_is_one_line() -> None:
    fault = Fault("x", "{a}", "{a}")
    problem = problem_of(fault, {"a": Shell("true\nrm -rf /tmp/x")})
    assert "\n" not in problem.command + problem.text


def broken(_here: Here) -> Iterator[Fact]:
    raise SyntaxError("broken")


def unseen(_here: Here) -> Iterator[Fact]:
    raise UnseenError("it is dark")


def ended(_here: Here) -> Iterator[Fact]:
    raise SystemExit(7)


def seen(_here: Here) -> Iterator[Fact]:
    yield Fact("seen", 1)


def test_broken_look_costs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (broken, unseen, ended, seen):
        monkeypatch.setattr(devices, function.__name__, function, raising=False)
    listed = [
        Check("a", "devices.broken"), Check("b", "devices.unseen"),
        Check("c", "devices.seen", ("b",)), Check("d", "devices.nonsense"),
        Check("e", "nonsense.x"), Check("f", "devices.seen"),
        Check("g", "devices.ended"),
    ]  # fmt: skip
    found = diagnose(Here(Configuration()), listed)
    assert [each.subject for each in found.unseen] == ["a", "b", "d", "e", "g"]
    assert found.unseen[0].why == "it cannot be looked at (SyntaxError: broken)"
    assert found.unseen[1].why == "it is dark"
    assert found.facts == {"seen": 1}


def test_no_look_imports_an_lxml_that_may_crash() -> None:
    """A crash would take what was found along: those that need it rest on its having been tried."""
    program = (
        "import importlib, sys\n"
        "importlib.import_module(sys.argv[1])\n"
        "sys.exit(any(name.startswith('lxml') for name in sys.modules))"
    )
    names = {check.look.partition(".")[0] for check in (*CHECKS, *SELF_TEST)}
    needing = {
        name
        for name in names
        if subprocess.run(
            [sys.executable, "-c", program, f"{checks.__package__}.{name}"],
            env={"PYTHONPATH": str(Path(checks.__file__).parents[3])},
            check=False,
        ).returncode
    }
    assert needing >= {"guests", "selftest"}
    resting = {checks.PYTHON}
    for check in (*CHECKS, *SELF_TEST):
        if resting & {*check.needs}:
            resting.add(check.subject)
        assert check.subject in resting or check.look.partition(".")[0] not in needing, check


def test_checks_rest_on_earlier_ones() -> None:
    known: set[str] = set()
    for check in (*CHECKS, *SELF_TEST):
        assert {*check.needs} <= known, check
        known.add(check.subject)
        module, _, name = check.look.partition(".")
        assert callable(getattr(__import__(f"{checks.__package__}.{module}", fromlist=["x"]), name))


def test_exit_statuses(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(doctor, "_here", lambda: Here(Configuration()))
    problem = Problem("x", "it is wrong", "mend it")
    for problems, unseen_, status, told in (
        ([], [], 0, "healthy\n"),
        ([problem], [], 1, "problem   it is wrong [x]\n  to mend: mend it\n"),
        ([], [checks.Unseen("s", "why")], 3, "not seen  s: why\n"),
        ([problem], [checks.Unseen("s", "why")], 1, None),
    ):
        found = checks.Diagnosis(problems, unseen_, {})
        monkeypatch.setattr(checks, "diagnose", lambda *_: found)  # noqa: B023 - called at once
        assert main(["doctor"]) == status
        assert told in (None, capsys.readouterr().out)


def test_who_is_not_root(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["doctor"]) == 3
    assert re.fullmatch("not seen  everything: .*\n", capsys.readouterr().out)


def test_its_errors_are_the_projects() -> None:
    assert issubclass(UnseenError, PreflightError)


# --- the service ---------------------------------------------------------------------------------


def test_watch_that_may_not_write_where_the_configuration_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its unit (ProtectSystem=strict) has it for directories that the unit does not name."""
    names = ("srv/history", "srv/au dit", "var/cache/vfio-preflight")
    for name in (*names, "run/systemd/system", "proc/77/root"):
        (tmp_path / name).mkdir(parents=True)
    wanted = tmp_path / payload.WANTED
    wanted.parent.mkdir(parents=True)
    wanted.touch()
    configured = Configuration(
        history="/srv/history", audit_log="/srv/au dit/log", catalogue="/absent", metrics="none"
    )
    real = os.statvfs

    def statvfs(path: str) -> object:
        inside = str(path).partition("/proc/77/root")
        outside = real(inside[0] if inside[1] else path)
        flag = os.ST_RDONLY if "/srv/" in inside[2] else 0
        return SimpleNamespace(f_flag=outside.f_flag | flag)

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(service, "_running", lambda _here: [(77, 4e9)])
    (told,) = look(service.watch, Here(configured, str(tmp_path)))
    problem = problem_of(BY_CODE[told.code], told.values)
    assert problem.code == "watch-shut-out" and "/srv/history" in problem.text
    words = problem.command.partition("printf ")[2].partition(" >>")[0]
    made = subprocess.run(
        ["/bin/sh", "-c", f"printf {words}"], capture_output=True, text=True, check=True
    )
    assert made.stdout == (
        '[Service]\nReadWritePaths="-/srv/history"\n[Service]\nReadWritePaths="-/srv/au dit"\n'
    )


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("", None), ("mkdir -p log/ours", None), ("mkdir -p log/ours; : >log/ours/a", None),
        ("rmdir log", "audit-nowhere"), (": >log/ours", "audit-unfit"),
        ("ln -s ours log/ours", "audit-unfit"), ("rmdir log; : >log", "audit-unfit"),
        ("mkdir log/ours; mkfifo log/ours/a", "audit-unfit"),
        ("mkdir -p log/ours/a", "audit-unfit"),
        ("mkdir log/ours; ln -s x log/ours/a", "audit-unfit"),
        ("mkdir log/ours; : >log/ours/a; chmod 666 log/ours/a", "audit-unfit"),
    ],
)  # fmt: skip
def test_audit_log_that_is_not_written(script: str, code: str | None, tmp_path: Path) -> None:
    """Told of, and written after the command, by the hook's own code."""
    (tmp_path / "log").mkdir()
    subprocess.run(["/bin/sh", "-c", f"umask 022; cd {tmp_path}; {script}"], check=True)
    configured = Here(Configuration(log="none", audit_log="/log/ours/a"), str(tmp_path))
    told = look(settings.log, configured)
    assert [each.code for each in told] == ([code] if code else [])
    for each in told:
        command = problem_of(BY_CODE[each.code], each.values).command
        subprocess.run(["/bin/sh", "-c", command], check=True)
    # What was in the way of a directory's directory has to be made as well.
    for each in look(settings.log, configured):
        command = problem_of(BY_CODE[each.code], each.values).command
        subprocess.run(["/bin/sh", "-c", command], check=True)
    assert look(settings.log, configured) == []
    audit.append(str(tmp_path / "log/ours/a"), b"{}\n", str(tmp_path), 0)
