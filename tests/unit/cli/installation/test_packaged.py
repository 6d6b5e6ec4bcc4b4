"""What a package's scripts do on a host; tests/packages has the package managers themselves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from unit.cli.installation.test_reload import make_daemon, make_hook
from unit.cli.installed import run, versions
from vfio_preflight.cli.diagnosis import entry
from vfio_preflight.cli.diagnosis.finding import Found
from vfio_preflight.cli.diagnosis.here import Here
from vfio_preflight.cli.installation import interpreter, packaged, proof, reload
from vfio_preflight.cli.installation.files import digest
from vfio_preflight.cli.installation.payload import CURRENT, ENTRY, HOOK, LIBRARY, InstallError
from vfio_preflight.cli.installation.reload import NEEDED, NOT_NEEDED, Advice
from vfio_preflight.configuration import Configuration

# The entry that packages ship. Where it changes, this goes into packaged.FORMER: hosts have it.
SHIPPED = "f5493e3227e94e4d66b71417240c00dd07c1ba949903cc67d4ff21dce7a3abd6"


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hook is called and nothing is asked of this machine."""
    monkeypatch.setattr(proof, "prove", lambda root: [])
    monkeypatch.setattr(interpreter, "require", lambda hook: None)
    monkeypatch.setattr(reload, "carry_out", lambda advice, root: "reload")


def unpack(root: Path, version: str) -> None:
    """What the package manager has done."""
    directory = root / LIBRARY / version
    directory.mkdir(parents=True)
    (directory / "hook").write_text("hook\n")
    manifest = {"version": version, "files": {}, "package": "deb"}
    (directory / "manifest.json").write_text(json.dumps(manifest))


def configure(root: Path, version: str, old: str = "") -> list[str]:
    return list(packaged.configure(str(root), version, old))


def hook(root: Path) -> str:
    return (root / HOOK).read_text()


def in_force(root: Path) -> str:
    return os.readlink(root / CURRENT)


def test_entry_is_the_one_that_packages_have_shipped() -> None:
    assert digest(ENTRY.encode()) == SHIPPED
    assert SHIPPED not in packaged.FORMER


def test_first_installation(tmp_path: Path) -> None:
    unpack(tmp_path, "1.0")
    assert configure(tmp_path, "1.0") == ["reload"]
    assert in_force(tmp_path) == "1.0"
    assert hook(tmp_path) == ENTRY
    assert os.access(tmp_path / HOOK, os.X_OK)


def test_upgrade_needs_no_reload(tmp_path: Path) -> None:
    unpack(tmp_path, "1.0")
    configure(tmp_path, "1.0")
    unpack(tmp_path, "1.1")
    assert configure(tmp_path, "1.1", "1.0") == []
    assert in_force(tmp_path) == "1.1"


def test_entry_of_an_earlier_package_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaged, "FORMER", {digest(b"older\n")})
    unpack(tmp_path, "1.0")
    configure(tmp_path, "1.0")
    (tmp_path / HOOK).write_text("older\n")
    assert configure(tmp_path, "1.0", "0.9") == []
    assert hook(tmp_path) == ENTRY


def test_hook_that_the_operator_took_away_stays_away(tmp_path: Path) -> None:
    unpack(tmp_path, "1.0")
    configure(tmp_path, "1.0")
    (tmp_path / HOOK).unlink()
    (said,) = configure(tmp_path, "1.0", "0.9")
    assert "was removed, and is not put back" in said
    assert not (tmp_path / HOOK).exists()
    # A reinstallation is how to have it back.
    assert configure(tmp_path, "1.0", "1.0") == ["reload"]
    assert hook(tmp_path) == ENTRY


def test_removed_package_is_installed_again(tmp_path: Path) -> None:
    unpack(tmp_path, "1.0")
    configure(tmp_path, "1.0")
    assert list(packaged.take_away(str(tmp_path), "1.0")) == []
    # Of the package's scripts.
    (tmp_path / CURRENT).unlink()
    assert not (tmp_path / HOOK).exists()
    unpack(tmp_path, "1.1")
    assert configure(tmp_path, "1.1", "1.0") == ["reload"]
    assert hook(tmp_path) == ENTRY


def test_changed_hook_is_kept(tmp_path: Path) -> None:
    unpack(tmp_path, "1.0")
    configure(tmp_path, "1.0")
    (tmp_path / HOOK).write_text("mine\n")
    (tmp_path / HOOK).chmod(0o755)
    assert "was changed, and is kept" in configure(tmp_path, "1.0", "0.9")[0]
    assert "was changed, and stays" in next(packaged.take_away(str(tmp_path), "1.0"))
    assert hook(tmp_path) == "mine\n"


def test_hook_that_is_not_executable_stays_so(tmp_path: Path) -> None:
    unpack(tmp_path, "1.0")
    configure(tmp_path, "1.0")
    (tmp_path / HOOK).chmod(0o644)
    (said,) = configure(tmp_path, "1.0", "0.9")
    assert said.endswith(f"chmod 755 {tmp_path / HOOK}")
    assert not os.access(tmp_path / HOOK, os.X_OK)


def test_takes_over(root: Path) -> None:
    (before,) = versions(root)
    changed = root / LIBRARY / before / "vfio_preflight/errors.py"
    changed.write_text("mine\n")
    unpack(root, "1.0")
    said = configure(root, "1.0")
    assert "took over from 'vfio-preflight install'" in said[0]
    assert said[1] == f"left in place, changed since it was installed: {changed}"
    assert [str(path.relative_to(root / LIBRARY)) for path in (root / LIBRARY).rglob("*.py")] == [
        f"{before}/vfio_preflight/errors.py"
    ]
    assert in_force(root) == "1.0"
    # From here on it is a package's.
    assert run("uninstall", root) == 2


def test_failure_leaves_what_was_in_force(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_root: str) -> None:
        raise InstallError("the hook does not answer")

    monkeypatch.setattr(proof, "prove", fail)
    (before,) = versions(root)
    unpack(root, "1.0")
    with pytest.raises(InstallError, match="does not answer; nothing was changed"):
        configure(root, "1.0")
    assert in_force(root) == before
    assert versions(root) == {before}


def test_no_traceback_reaches_an_operator(capsys: pytest.CaptureFixture[str]) -> None:
    assert packaged.main(["what"], "1.0") == 1
    assert (
        capsys.readouterr().err
        == "vfio-preflight: maintain is for the scripts of the package alone\n"
    )


# --- the reload ----------------------------------------------------------------------------------


class Systemd:
    """A host of systemd's, with ``programs`` that say what they are called with."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.asked = directory / "asked"
        monkeypatch.undo()
        (directory / "system").mkdir()
        monkeypatch.setattr(reload, "SYSTEMD", str(directory / "system"))
        monkeypatch.setattr(reload, "INVOKERS", (str(directory / "invoke"),))
        monkeypatch.setattr(reload, "SYSTEMCTL", str(directory / "systemctl"))
        self.program("invoke", f'echo "$*" >>{self.asked}')
        self.program("systemctl", '[ "$3" = virtqemud.service ]')

    def program(self, name: str, text: str) -> None:
        path = self.directory / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    return Systemd(tmp_path, monkeypatch)


ADVICE = Advice(NEEDED, "run systemctl reload libvirtd")


def test_daemon_that_runs_is_reloaded(systemd: Systemd) -> None:
    assert reload.carry_out(ADVICE, str(systemd.directory)).startswith(
        "reloaded virtqemud.service:"
    )
    assert systemd.asked.read_text() == "reload virtqemud.service\n"


def test_what_was_reloaded_is_known_to_doctor(systemd: Systemd) -> None:
    """systemd's own time of a reload is cut to the second: that of the hook may be later."""
    root = systemd.directory
    make_daemon(root, 100, name="virtqemud")
    make_hook(root, "qemu.d/50-vfio-preflight")
    here = Here(Configuration(), str(root))
    found = [each for each in entry.reloaded(here) if isinstance(each, Found)]
    assert [each.code for each in found] == ["reload-pending"]
    assert reload.carry_out(ADVICE, str(root)).startswith("reloaded virtqemud.service:")
    assert not [each for each in entry.reloaded(here) if isinstance(each, Found)]


def test_nothing_is_reloaded_without_need(systemd: Systemd) -> None:
    assert reload.carry_out(Advice(NOT_NEEDED, "no reload needed"), "/") == "no reload needed"
    assert not systemd.asked.exists()


@pytest.mark.parametrize("text", ["echo 'policy-rc.d returned 101, not running'", "exit 1"])
def test_reload_that_was_not_done_is_the_operators(text: str, systemd: Systemd) -> None:
    systemd.program("invoke", text)
    assert reload.carry_out(ADVICE, str(systemd.directory)) == ADVICE.text


def test_no_service_runs(systemd: Systemd) -> None:
    systemd.program("systemctl", "exit 3")
    assert reload.carry_out(ADVICE, str(systemd.directory)) == ADVICE.text


def test_without_systemd_it_is_the_operators(systemd: Systemd) -> None:
    (systemd.directory / "system").rmdir()
    assert reload.carry_out(ADVICE, str(systemd.directory)) == ADVICE.text
