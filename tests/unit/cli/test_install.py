from __future__ import annotations

import compileall
import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from vfio_preflight.cli import payload
from vfio_preflight.cli.main import main
from vfio_preflight.cli.placed import digest

HOOK = "etc/libvirt/hooks/qemu.d/50-vfio-preflight"
COMMAND = "usr/bin/vfio-preflight"
LIBRARY = "usr/lib/vfio-preflight"
MANIFEST = f"{LIBRARY}/manifest.json"
CONFIGURATION = "etc/vfio-preflight.conf"
RULES = "etc/vfio-preflight/vendor-rules.d"
MODULE = f"{LIBRARY}/vfio_preflight/report/text.py"

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh installation, compiled; tests that change it take a copy."""
    root = tmp_path_factory.mktemp("staged")
    assert main(["install", "--root", str(root)]) == 0
    return root


@pytest.fixture
def root(staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation to work on; what is installed into it is not compiled again."""
    monkeypatch.setattr(compileall, "compile_dir", lambda *_args, **_options: True)
    shutil.copytree(staged, tmp_path / "root", symlinks=True)
    return tmp_path / "root"


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(compileall, "compile_dir", lambda *_args, **_options: True)
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def run(command: str, root: Path) -> int:
    return main([command, "--root", str(root)])


def files(root: Path) -> dict[str, bytes]:
    paths = (path for path in root.rglob("*") if path.is_file())
    return {str(p.relative_to(root)): p.read_bytes() for p in paths if p.suffix != ".pyc"}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- install -------------------------------------------------------------------------------------


def test_fresh_installation(staged: Path) -> None:
    assert (staged / HOOK).read_bytes() == (CHECKOUT / "hooks/vfio-preflight").read_bytes()
    shipped = (CHECKOUT / "etc/vfio-preflight.conf").read_bytes()
    assert (staged / CONFIGURATION).read_bytes() == shipped
    assert (staged / COMMAND).read_text().startswith("#!/usr/bin/python3 -I\n")
    assert (staged / f"{LIBRARY}/vfio_preflight/qemu/trial/fakevfio.c").exists()
    assert (staged / "var/lib/vfio-preflight/states").is_dir()


def test_whole_package_is_installed(staged: Path) -> None:
    package = CHECKOUT / "plugin"
    ours = {str(path.relative_to(package)) for path in package.rglob("*.py")}
    theirs = {str(path.relative_to(staged / LIBRARY)) for path in staged.rglob("*.py")}
    assert theirs == ours


def test_modes(staged: Path) -> None:
    assert {mode(staged / path) for path in (HOOK, COMMAND)} == {0o755}
    assert {mode(staged / path) for path in (MODULE, CONFIGURATION, MANIFEST)} == {0o644}
    assert mode(staged / "var/cache/vfio-preflight") == 0o700


def test_nothing_is_left_beside_what_is_installed(staged: Path) -> None:
    assert [path for path in staged.rglob(".*") if path.is_file()] == []
    assert [path.name for path in (staged / HOOK).parent.iterdir()] == ["50-vfio-preflight"]


def test_package_is_compiled_for_where_it_will_be(staged: Path) -> None:
    (compiled,) = (staged / f"{LIBRARY}/vfio_preflight/hook/__pycache__").glob("entry.*.pyc")
    assert b"/usr/lib/vfio-preflight/vfio_preflight/hook/entry.py" in compiled.read_bytes()
    assert str(staged).encode() not in compiled.read_bytes()


def test_first_hook_needs_a_reload(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("install", empty) == 0
    out = capsys.readouterr().out
    assert "systemctl reload libvirtd" in out
    assert f"installed: {empty}/{CONFIGURATION}" in out


@pytest.mark.parametrize("other", ["qemu", "qemu.d/10-other"])
def test_later_hook_needs_none(other: str, empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = empty / "etc/libvirt/hooks" / other
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    assert run("install", empty) == 0
    assert "no reload needed" in capsys.readouterr().out
    assert path.read_text() == "#!/bin/sh\n"


def test_second_installation_changes_nothing(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(root)
    assert run("install", root) == 0
    assert files(root) == before
    out = capsys.readouterr().out
    assert f"kept:      {root}/{CONFIGURATION}" in out
    assert "Unless libvirt was reloaded" in out and "no reload needed" not in out


def test_operators_configuration_is_kept(root: Path) -> None:
    (root / CONFIGURATION).write_text("[policy]\nfail = mend\n")
    assert run("install", root) == 0
    assert (root / CONFIGURATION).read_text() == "[policy]\nfail = mend\n"


def test_older_version_is_replaced(root: Path) -> None:
    older = b"# an older version\n"
    (root / MODULE).write_bytes(older)
    stale = root / LIBRARY / "vfio_preflight/gone.py"
    stale.write_bytes(older)
    manifest = json.loads((root / MANIFEST).read_text())
    for path in (MODULE, str(stale.relative_to(root))):
        manifest["files"][path] = digest(older)
    (root / MANIFEST).write_text(json.dumps(manifest))
    assert run("install", root) == 0
    assert (root / MODULE).read_bytes() != older
    assert not stale.exists()


@pytest.mark.parametrize("path", [HOOK, COMMAND, MODULE])
def test_foreign_file_is_never_overwritten(
    path: str, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (empty / path).parent.mkdir(parents=True)
    (empty / path).write_text("theirs")
    assert run("install", empty) == 2
    assert files(empty) == {path: b"theirs"}, "nothing else was begun"
    assert f"{empty}/{path} is not ours; move it away" in capsys.readouterr().err


@pytest.mark.parametrize("path", [HOOK, COMMAND, MODULE])
def test_changed_file_is_never_overwritten(
    path: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / path).write_text("changed")
    assert run("install", root) == 2
    assert (root / path).read_text() == "changed"
    assert "was changed since it was installed" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 7}', "{"])
def test_damaged_manifest(text: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / MANIFEST).write_text(text)
    for command in ("install", "uninstall"):
        assert run(command, root) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"vfio-preflight: {root}/{MANIFEST}: cannot be read")


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_root_that_is_no_directory(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, tmp_path / "none") == 2
    assert "none is not a directory" in capsys.readouterr().err


def test_file_where_a_directory_should_be(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (empty / "usr").write_text("")
    assert run("install", empty) == 2
    err = capsys.readouterr().err
    assert err.startswith("vfio-preflight: ") and "Traceback" not in err


def test_installation_without_its_data(
    empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(payload, "DATA", (str(empty),))
    assert run("install", empty) == 2
    assert "install from a checkout or a wheel" in capsys.readouterr().err


@pytest.mark.parametrize("path", [HOOK, COMMAND, MODULE])
def test_link_is_never_replaced(path: str, empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (empty / path).parent.mkdir(parents=True)
    (empty / path).symlink_to("/nowhere/theirs")
    assert run("install", empty) == 2
    assert f"{empty}/{path} is a symbolic link" in capsys.readouterr().err
    assert (empty / path).is_symlink() and files(empty) == {}


def test_umask_of_root_does_not_matter(empty: Path) -> None:
    before = os.umask(0o077)
    try:
        assert run("install", empty) == 0
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    closed = {path for path in empty.rglob("*") if not mode(path) & 0o004}
    assert closed == {empty / "var/cache/vfio-preflight"}
    (shim,) = empty.rglob("fakevfio.so")
    assert mode(shim) & 0o444 == 0o444


def test_directories_are_opened_again(root: Path) -> None:
    (root / MODULE).parent.chmod(0o700)
    assert run("install", root) == 0
    assert mode((root / MODULE).parent) == 0o755


@pytest.mark.parametrize(("other", "reload"), [("", "needed"), ("qemu", "not-needed")])
def test_install_told_as_json(
    other: str, reload: str, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if other:
        (empty / "etc/libvirt/hooks").mkdir(parents=True)
        (empty / "etc/libvirt/hooks" / other).write_text("#!/bin/sh\n")
    assert main(["install", "--root", str(empty), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["reload"], told["configuration_kept"]) == (1, reload, False)
    assert told["installed"][0] == f"{empty}/{HOOK}"


# --- uninstall -----------------------------------------------------------------------------------


def test_uninstall_removes_exactly_ours(root: Path) -> None:
    kept = {
        "etc/libvirt/hooks/qemu": b"#!/bin/sh\n",
        "etc/libvirt/hooks/qemu.d/10-other": b"#!/bin/sh\n",
        "var/lib/vfio-preflight/states/0000:06:00.4": b"theirs",
    }
    for path, data in kept.items():
        (root / path).write_bytes(data)
    assert run("uninstall", root) == 0
    assert files(root) == kept
    assert not (root / LIBRARY).exists()


def test_uninstall_of_a_plain_installation_leaves_nothing(root: Path) -> None:
    assert run("uninstall", root) == 0
    assert files(root) == {}
    left = {str(path.relative_to(root)) for path in root.rglob("*")}
    assert not any("vfio-preflight" in path for path in left)


def test_uninstall_by_the_installed_command(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no checkout beside it to compare the configuration with."""
    assert run("install", root) == 0
    monkeypatch.setattr(payload, "DATA", ())
    assert run("uninstall", root) == 0
    assert files(root) == {}


def test_uninstall_keeps_a_link(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = root / "theirs"
    (root / HOOK).rename(theirs)
    (root / HOOK).symlink_to(theirs)
    assert run("uninstall", root) == 0
    assert (root / HOOK).is_symlink()
    assert f"changed since it was installed: {root}/{HOOK}" in capsys.readouterr().out


def test_uninstall_told_as_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / HOOK).write_text("changed")
    assert main(["uninstall", "--root", str(root), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["left"] == [f"{root}/{HOOK}"]
    assert (told["configuration_kept"], told["service_enabled"]) == (False, False)


def test_uninstall_keeps_the_operators_configuration(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / CONFIGURATION).write_text("[policy]\nfail = mend\n")
    assert run("uninstall", root) == 0
    assert list(files(root)) == [CONFIGURATION]
    assert f"left in place, yours: {root}/{CONFIGURATION}" in capsys.readouterr().out


@pytest.mark.parametrize("path", [HOOK, COMMAND, MODULE])
def test_uninstall_keeps_a_changed_file(
    path: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / path).write_text("changed")
    assert run("uninstall", root) == 0
    assert files(root) == {path: b"changed"}
    assert (
        f"left in place, changed since it was installed: {root}/{path}" in capsys.readouterr().out
    )


def test_uninstall_keeps_a_foreign_file_among_ours(root: Path) -> None:
    foreign = f"{LIBRARY}/notes.txt"
    (root / foreign).write_text("mine")
    assert run("uninstall", root) == 0
    assert files(root) == {foreign: b"mine"}


def test_uninstall_of_what_is_gone_already(root: Path) -> None:
    (root / HOOK).unlink()
    (root / CONFIGURATION).unlink()
    assert run("uninstall", root) == 0
    assert files(root) == {}


def test_uninstall_twice(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("uninstall", root) == 0
    assert run("uninstall", root) == 2
    assert "nothing to remove" in capsys.readouterr().err


def test_install_after_uninstall(root: Path, staged: Path) -> None:
    assert run("uninstall", root) == 0
    assert run("install", root) == 0
    assert files(root) == files(staged)


# --- vendors' rules ------------------------------------------------------------------------------


def test_rules_are_installed_as_shipped(staged: Path) -> None:
    shipped = {path.name: path.read_bytes() for path in (CHECKOUT / "etc/vendor-rules.d").iterdir()}
    assert {path.name: path.read_bytes() for path in (staged / RULES).iterdir()} == shipped
    assert {mode(path) for path in (staged / RULES).iterdir()} == {0o644}
    assert mode(staged / RULES) == 0o755


def test_wheel_has_every_file_of_rules() -> None:
    listed = (CHECKOUT / "setup.cfg").read_text()
    names = sorted(path.name for path in (CHECKOUT / "etc/vendor-rules.d").iterdir())
    assert names == sorted(payload.RULE_FILES)
    assert all(f"    etc/vendor-rules.d/{name}\n" in listed for name in names)


def test_changed_rules_are_kept(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / RULES / "nvidia.ini").write_text("# mine\n")
    (root / RULES / "own.ini").write_text("# mine, too\n")
    (root / RULES / "intel.ini").unlink()
    (root / RULES / "intel.ini").symlink_to(root / RULES / "own.ini")
    assert run("install", root) == 0
    assert (root / RULES / "nvidia.ini").read_text() == "# mine\n"
    out = capsys.readouterr().out
    assert f"kept:      {root}/{RULES}/nvidia.ini" in out and f"{RULES}/intel.ini" in out
    assert run("uninstall", root) == 0
    left = {f"{RULES}/{name}.ini" for name in ("nvidia", "own", "intel")}
    assert set(files(root)) == left
    out = capsys.readouterr().out
    assert f"left in place, yours: {root}/{RULES}/nvidia.ini" in out and "mellanox" not in out


def test_rules_of_an_older_version_are_renewed(root: Path, staged: Path) -> None:
    older = b"# an older version\n"
    manifest = json.loads((root / MANIFEST).read_text())
    for name in ("nvidia.ini", "gone.ini"):
        (root / RULES / name).write_bytes(older)
        manifest["rules"][f"{RULES}/{name}"] = digest(older)
    (root / MANIFEST).write_text(json.dumps(manifest))
    assert run("install", root) == 0
    assert files(root) == files(staged)


def test_upgrade_from_a_version_without_rules(root: Path, staged: Path) -> None:
    shutil.rmtree(root / RULES)
    manifest = json.loads((root / MANIFEST).read_text())
    del manifest["rules"]
    (root / MANIFEST).write_text(json.dumps(manifest))
    assert run("install", root) == 0
    assert files(root) == files(staged)


def test_kept_rules_told_as_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / RULES / "nvidia.ini").write_text("# mine\n")
    for command in ("install", "uninstall"):
        assert main([command, "--root", str(root), "--format", "json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["rules_kept"] == [f"{root}/{RULES}/nvidia.ini"]
