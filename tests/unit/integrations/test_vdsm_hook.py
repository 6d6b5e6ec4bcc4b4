"""VDSM's hook: what it makes of a report, and of everything that is none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from system.vdsm import run_hooks
from unit.makers import make_device_report, make_report
from unit.patience import appears, ends
from vfio_preflight.judge.policy import Decision
from vfio_preflight.judge.verdicts import ALLOW, ANNOTATE, BLOCK, MEND
from vfio_preflight.report.schema import ReportDict, as_dict
from vfio_preflight.report.text import refusal

CHECKOUT = Path(__file__).parents[3]
SHIM = CHECKOUT / "hooks/vdsm/before_vm_migrate_destination.py"
NAME = "50_vfio-preflight"
XML = b"<?xml version='1.0' encoding='utf-8'?>\n<domain><name>g1</name></domain>"


class Vdsm:
    """A hook directory of VDSM's with ours in it, and a sudo that answers what it is told to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hooks = path / "hooks"
        self.hooks.mkdir()
        text = SHIM.read_text()
        for old, new in (
            ('"/usr/bin/sudo"', f'"{path}/sudo"'),
            ("/usr/lib/vfio-preflight/current", str(CHECKOUT / "plugin")),
        ):
            assert text.count(old) == 1
            text = text.replace(old, new)
        self.add(NAME, text)

    def add(self, name: str, text: str) -> None:
        (self.hooks / name).write_text(text)
        (self.hooks / name).chmod(0o755)

    def sudo(self, script: str) -> None:
        (self.path / "sudo").write_text(f"#!/bin/sh\n{script}\n")
        (self.path / "sudo").chmod(0o755)

    def answers(self, value: Any, status: int = 0) -> None:  # noqa: ANN401 - any JSON
        (self.path / "answer").write_text(json.dumps(value))
        self.sudo(
            f'printf "%s " "$@" >{self.path}/asked; cat >{self.path}/stdin; cat {self.path}/answer;'
            f" exit {status}"
        )

    def run(self, custom: dict[str, str] | None = None) -> dict[str, Any]:
        return run_hooks(self.hooks, XML, custom or {})


@pytest.fixture
def vdsm(tmp_path: Path) -> Vdsm:
    return Vdsm(tmp_path)


def report(action: str, code: str = "vsc-body-differs") -> ReportDict:
    return as_dict(make_report(make_device_report(code)), Decision(action))


def test_refusal_is_that_of_libvirts_hook(vdsm: Vdsm) -> None:
    vdsm.answers(report(BLOCK), status=1)
    found = vdsm.run()
    assert [(each["name"], each["status"]) for each in found["ran"]] == [(NAME, 2)]
    assert found["error"].splitlines() == refusal(report(BLOCK), "migration")
    assert (vdsm.path / "stdin").read_bytes() == XML
    assert found["xml"].encode() == XML


def test_hooks_after_a_refusal_do_not_run_nor_replace_its_reason(vdsm: Vdsm) -> None:
    vdsm.answers(report(BLOCK), status=1)
    vdsm.add("10_first", "#!/bin/sh\nexit 0\n")
    vdsm.add("90_last", "#!/bin/sh\necho nothing to do with it >&2\n")
    found = vdsm.run()
    assert [each["name"] for each in found["ran"]] == ["10_first", NAME]
    assert found["error"].startswith("vfio-preflight: migration blocked: ")


@pytest.mark.parametrize("action", [ALLOW, ANNOTATE, MEND, None])
def test_whatever_is_not_blocked_goes_on(vdsm: Vdsm, action: str | None) -> None:
    # Exit status 1: QEMU will refuse it, and the policy lets that happen.
    vdsm.answers({**report(ALLOW), "action": action}, status=1)
    found = vdsm.run()
    (ran,) = found["ran"]
    assert (ran["status"], found["error"]) == (0, None)
    assert ran["err"].startswith("vfio-preflight: let pass here: ")
    assert "text of vsc-body-differs" in ran["err"]


def test_silence_about_a_guest_without_devices(vdsm: Vdsm) -> None:
    vdsm.answers(as_dict(make_report(), Decision(ALLOW)), status=3)
    assert vdsm.run()["ran"] == [{"name": NAME, "status": 0, "err": ""}]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        # sudo's own status, which is also that of a refusal.
        ("echo 'sudo: a password is required' >&2; exit 1", "sudo: a password is required"),
        ("exit 2", "exit status 2"),
        ("echo '{'; exit 1", "exit status 1"),
        ("echo '[]'", "another form"),
        ("""echo '{"schema": 2, "action": "block", "devices": [1]}'""", "another form"),
        ("""echo '{"schema": 1, "error": "no lxml"}'; exit 2""", "no lxml"),
        ("""echo '{"schema": 1, "action": "block", "devices": [{}]}'; exit 1""", "KeyError"),
        ("kill -9 $$", "exit status -9"),
    ],
)
def test_what_is_no_report_is_let_pass_and_said(vdsm: Vdsm, script: str, said: str) -> None:
    vdsm.sudo(script)
    found = vdsm.run()
    (ran,) = found["ran"]
    assert (ran["status"], found["error"]) == (0, None)
    assert ran["err"].startswith("vfio-preflight: nothing was checked before libvirt's hook does: ")
    assert said in ran["err"] and ran["err"].count("\n") == 1


def test_without_sudo(vdsm: Vdsm) -> None:
    (ran,) = vdsm.run()["ran"]
    assert ran["status"] == 0 and "No such file or directory" in ran["err"]


def test_without_the_package(vdsm: Vdsm) -> None:
    hook = vdsm.hooks / NAME
    hook.write_text(hook.read_text().replace(str(CHECKOUT / "plugin"), f"{vdsm.path}/none"))
    vdsm.answers(report(BLOCK), status=1)
    (ran,) = vdsm.run()["ran"]
    assert ran["status"] == 0 and "ModuleNotFoundError" in ran["err"]


def test_check_that_never_ends_holds_nothing_up(vdsm: Vdsm) -> None:
    hook = vdsm.hooks / NAME
    hook.write_text(hook.read_text().replace("SECONDS = 30.0", "SECONDS = 0.2"))
    pid = vdsm.path / "pid"
    vdsm.sudo(f"echo $$ >{pid}.part; mv {pid}.part {pid}; exec sleep 300")
    with ends():
        (ran,) = vdsm.run()["ran"]
    assert ran["status"] == 0 and "no answer within 0 seconds" in ran["err"]
    assert appears(pid)
    os.kill(int(pid.read_text()), signal.SIGKILL)


def test_custom_properties_change_nothing(vdsm: Vdsm) -> None:
    """VDSM makes an environment variable of each."""
    evil = vdsm.path / "evil"
    evil.mkdir()
    (evil / "json.py").write_text("raise SystemExit(2)\n")
    vdsm.answers(report(BLOCK), status=1)
    found = vdsm.run({"PYTHONPATH": str(evil), "PYTHONHOME": str(evil), "LC_ALL": "no_SUCH"})
    assert found["error"].startswith("vfio-preflight: migration blocked: ")


def test_not_from_vdsm(vdsm: Vdsm) -> None:
    done = subprocess.run([vdsm.hooks / NAME], capture_output=True, text=True, env={}, check=False)
    assert done.returncode == 0 and "_hook_domxml is not set" in done.stderr


def test_sudo_is_asked_exactly_what_it_allows(vdsm: Vdsm) -> None:
    vdsm.answers(report(ALLOW))
    vdsm.run()
    option, *words = (vdsm.path / "asked").read_text().split()
    sudoers = (CHECKOUT / "etc/sudoers.d/50_vdsm_hook_vfio-preflight").read_text().splitlines()
    rules = [line for line in sudoers if not line.startswith("#")]
    assert (option, rules) == ("-n", [f"vdsm ALL=(root) NOPASSWD: {' '.join(words)}"])
