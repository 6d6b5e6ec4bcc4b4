from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.cli.installed import (
    CHECKOUT,
    COMMAND,
    CONFIGURATION,
    CURRENT,
    HOOK,
    LIBRARY,
    MANIFEST,
    MODULE,
    RULES,
    files,
    leftovers,
    make_flat,
    mode,
    run,
    versions,
)
from vfio_preflight.cli.installation import payload
from vfio_preflight.cli.installation.files import digest
from vfio_preflight.cli.main import main

PACKAGE = f"{LIBRARY}/vfio_preflight"


# --- install -------------------------------------------------------------------------------------


def test_fresh_installation(staged: Path) -> None:
    assert (staged / HOOK).read_text() == payload.ENTRY
    hook = (CHECKOUT / "hooks/vfio-preflight").read_text()
    version = os.readlink(staged / CURRENT)
    expected = hook.replace('"/usr/lib/vfio-preflight"', f'"/usr/lib/vfio-preflight/{version}"')
    assert (staged / CURRENT / "hook").read_text() == expected != hook
    shipped = (CHECKOUT / "etc/vfio-preflight.conf").read_bytes()
    assert (staged / CONFIGURATION).read_bytes() == shipped
    assert (staged / COMMAND).read_text().startswith("#!/usr/bin/python3 -I\n")
    assert (staged / CURRENT / "vfio_preflight/qemu/trial/fakevfio.c").exists()
    assert (staged / "var/lib/vfio-preflight/states").is_dir()


def test_whole_package_is_installed(staged: Path) -> None:
    package, current = CHECKOUT / "plugin", (staged / CURRENT).resolve()
    ours = {str(path.relative_to(package)) for path in package.rglob("*.py")}
    theirs = {str(path.relative_to(current)) for path in current.rglob("*.py")}
    assert theirs == ours


def test_modes(staged: Path) -> None:
    assert {mode(staged / path) for path in (HOOK, COMMAND)} == {0o755}
    assert {mode(staged / path) for path in (MODULE, CONFIGURATION, MANIFEST)} == {0o644}
    assert mode(staged / "var/cache/vfio-preflight") == 0o700


def test_nothing_is_left_beside_what_is_installed(staged: Path) -> None:
    assert leftovers(staged) == []
    assert [path.name for path in (staged / HOOK).parent.iterdir()] == ["50-vfio-preflight"]


def test_package_is_compiled_for_where_it_will_be(staged: Path) -> None:
    (compiled,) = (staged / CURRENT / "vfio_preflight/hook/__pycache__").glob("entry.*.pyc")
    place = f"/usr/lib/vfio-preflight/{os.readlink(staged / CURRENT)}/vfio_preflight/hook/entry.py"
    assert place.encode() in compiled.read_bytes()
    assert str(staged).encode() not in compiled.read_bytes()


def test_first_hook_needs_a_reload(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("install", empty) == 0
    out = capsys.readouterr().out
    assert "systemctl reload libvirtd" in out
    assert f"installed: {empty}/{CONFIGURATION}" in out
    assert "not tried: the hook is staged" in out


def test_second_installation_changes_nothing(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, since = files(root), (root / HOOK).stat()
    assert run("install", root) == 0
    assert files(root) == before
    assert (root / HOOK).stat() == since, "libvirt has seen this one"
    out = capsys.readouterr().out
    assert f"kept:      {root}/{CONFIGURATION}" in out
    assert "Unless libvirt was reloaded" in out and "no reload needed" not in out


def test_version_before_stays_until_the_next(root: Path) -> None:
    """A hook that is running may still import from it."""
    (first,) = versions(root)
    assert run("install", root) == 0
    second = os.readlink(root / CURRENT)
    assert versions(root) == {first, second}
    assert run("install", root) == 0
    assert versions(root) == {second, os.readlink(root / CURRENT)}


def test_operators_configuration_is_kept(root: Path) -> None:
    (root / CONFIGURATION).write_text("[policy]\nfail = mend\n")
    assert run("install", root) == 0
    assert (root / CONFIGURATION).read_text() == "[policy]\nfail = mend\n"


def test_older_version_is_replaced(root: Path) -> None:
    stale, left = root / PACKAGE / "gone.py", root / "usr/bin/vfio-preflight-old"
    stale.write_text("# an older version\n")
    left.write_text("# an older version\n")
    manifest = json.loads((root / MANIFEST).read_text())
    for path in (f"{LIBRARY}/{os.readlink(root / CURRENT)}/vfio_preflight/gone.py",
                 str(left.relative_to(root))):  # fmt: skip
        manifest["files"][path] = digest(b"# an older version\n")
    (root / MANIFEST).write_text(json.dumps(manifest))
    assert run("install", root) == 0
    assert not stale.exists() and not left.exists()


def test_older_arrangement_is_replaced(root: Path, staged: Path) -> None:
    """The package lay in the library itself, and stays until the installation after this one."""
    make_flat(root)
    assert run("install", root) == 0
    assert (root / CURRENT).is_symlink()
    assert (root / PACKAGE).is_dir() and not (root / PACKAGE).is_symlink()
    assert run("install", root) == 0
    assert (root / PACKAGE).is_symlink() and (root / MODULE).exists()
    assert files(root) == files(staged)


def test_older_arrangement_that_was_left_is_no_harm(root: Path, staged: Path) -> None:
    """Killed between the removal of its package and that of its manifest."""
    manifest = json.loads((root / MANIFEST).read_text())
    prefix = f"{LIBRARY}/{os.readlink(root / CURRENT)}/"
    flat = {p.replace(prefix, f"{LIBRARY}/"): d for p, d in manifest["files"].items()}
    (root / LIBRARY / "manifest.json").write_text(json.dumps({**manifest, "files": flat}))
    assert run("install", root) == 0
    assert files(root) == files(staged)


@pytest.mark.parametrize("path", [HOOK, COMMAND, PACKAGE, CURRENT])
def test_foreign_file_is_never_overwritten(
    path: str, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (empty / path).parent.mkdir(parents=True)
    (empty / path).write_text("theirs")
    assert run("install", empty) == 2
    assert files(empty) == {path: b"theirs"}, "nothing else was begun"
    assert f"{empty}/{path} is not ours; move it away" in capsys.readouterr().err


@pytest.mark.parametrize("path", [HOOK, COMMAND, MODULE])
@pytest.mark.parametrize("flat", [False, True])
def test_changed_file_is_never_overwritten(
    path: str, flat: bool, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if flat:
        make_flat(root)
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
        manifest = (root / MANIFEST).resolve()
        assert err.startswith(f"vfio-preflight: {manifest}: cannot be read")


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
    assert "a directory is needed there: move away what is in its place" in err
    assert err.endswith("nothing was changed\n")
    assert [path.name for path in empty.iterdir()] == ["usr"]


@pytest.mark.parametrize("place", ["etc/libvirt", "usr/lib", "etc/vfio-preflight", "usr/bin"])
def test_link_that_leads_out_of_the_root(
    place: str, empty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (empty / place).parent.mkdir(parents=True, exist_ok=True)
    (empty / place).symlink_to(host)
    assert run("install", empty) == 2
    err = capsys.readouterr().err
    assert f"which is not below {empty}: a link leads out of it" in err
    assert err.endswith("nothing was changed\n")
    assert not list(host.iterdir())


def test_link_within_the_root(empty: Path) -> None:
    (empty / "persist").mkdir()
    (empty / "etc").mkdir()
    (empty / "etc/libvirt").symlink_to("../persist")
    assert run("install", empty) == 0
    assert (empty / "persist/hooks/qemu.d/50-vfio-preflight").is_file()


def test_installation_without_its_data(
    empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(payload, "DATA", (str(empty),))
    assert run("install", empty) == 2
    assert "install from a checkout or a wheel" in capsys.readouterr().err


def test_hook_that_imports_from_elsewhere(
    empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its path is exchanged for that of the version: an edit of the hook must not go unnoticed."""
    monkeypatch.setattr(payload, "data_file", lambda _name: b"#!/bin/sh\n")
    assert run("install", empty) == 2
    assert "imports from another place" in capsys.readouterr().err


@pytest.mark.parametrize("path", [HOOK, COMMAND, PACKAGE])
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


def test_install_told_as_json(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "--root", str(empty), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["reload"], told["configuration_kept"]) == (1, "needed", False)
    assert told["installed"][0] == f"{empty}/{HOOK}"
    assert told["proved"] == [] and told["labels"] == ""


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


@pytest.fixture(params=["one", "two", "flat", "flat and one"])
def history(request: pytest.FixtureRequest, root: Path) -> Iterator[Path]:
    """Roots with all that installations can leave behind one another."""
    if "flat" in request.param:
        make_flat(root)
    if request.param in ("two", "flat and one"):
        assert run("install", root) == 0
    yield root


def test_uninstall_of_a_plain_installation_leaves_nothing(history: Path) -> None:
    assert run("uninstall", history) == 0
    left = {str(path.relative_to(history)) for path in history.rglob("*")}
    assert not any("vfio-preflight" in path for path in left)


def test_uninstall_leaves_no_metrics_to_be_shown_for_ever(root: Path) -> None:
    textfile = root / "var/lib/prometheus/node-exporter/vfio-preflight.prom"
    textfile.parent.mkdir(parents=True)
    textfile.write_text("vfio_preflight_build_info 1\n")
    assert run("uninstall", root) == 0
    assert not textfile.exists() and textfile.parent.exists()


def test_uninstall_leaves_none_where_the_configuration_has_them(root: Path) -> None:
    (root / CONFIGURATION).write_text("[paths]\nmetrics = /srv/text files\n")
    for directory in ("srv/text files", "var/lib/prometheus/node-exporter"):
        (root / directory).mkdir(parents=True)
        (root / directory / "vfio-preflight.prom").write_text("vfio_preflight_build_info 1\n")
    assert run("uninstall", root) == 0
    assert not [*root.rglob("*.prom")]


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
    changed = (root / path).resolve()
    assert run("uninstall", root) == 0
    assert [path for path in root.rglob("*") if path.is_file()] == [changed]
    assert f"left in place, changed since it was installed: {changed}" in capsys.readouterr().out


def test_changed_file_outlives_its_version(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that was changed when its version was not in force any more."""
    changed = (root / MODULE).resolve()
    assert run("install", root) == 0
    changed.write_text("changed")
    for _ in range(3):
        assert run("install", root) == 0
    assert changed.read_text() == "changed"
    told = f"left in place, changed since it was installed: {changed}"
    assert capsys.readouterr().out.count(told) == 1


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


def test_uninstall_that_fails_can_be_repeated(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unlink, done = os.unlink, [0]

    def failing(path: str) -> None:
        done[0] += 1
        if done[0] == 40:
            raise OSError(5, "Input/output error", path)
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", failing)
        assert run("uninstall", root) == 2
    assert "run uninstall again for the rest" in capsys.readouterr().err
    assert not (root / HOOK).exists()
    assert run("uninstall", root) == 0
    assert files(root) == {}


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


def test_wheel_has_everything_that_is_no_part_of_the_package() -> None:
    listed = (CHECKOUT / "setup.cfg").read_text().partition("[options.data_files]")[2]
    for path in (CHECKOUT / "hooks").rglob("*"), (CHECKOUT / "etc").rglob("*"):
        for file in path:
            name = str(file.relative_to(CHECKOUT))
            if file.is_file() and "__pycache__" not in name:
                assert re.search(rf"(?m)(?:^    |= ){re.escape(name)}$", listed), name
                directory = str(Path(name).parent)
                assert f"share/vfio-preflight/{directory} =" in listed


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
    assert {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()} == left
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
