"""Whether a package owns an installation, and what install and uninstall say then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vfio_preflight.cli.installation import launcher, owner
from vfio_preflight.cli.installation.manifest import read_all
from vfio_preflight.cli.installation.owner import Owner
from vfio_preflight.cli.installation.payload import LIBRARY, InstallError
from vfio_preflight.cli.main import main


def make_version(root: Path, name: str, **value: object) -> Path:
    path = root / LIBRARY / name / "manifest.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"version": name, "files": {}, **value}))
    return path


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_package_is_found(kind: str, tmp_path: Path) -> None:
    make_version(tmp_path, "0.9.0", package=kind)
    (tmp_path / LIBRARY / "current").symlink_to("0.9.0")
    assert owner.find(str(tmp_path)) == Owner(kind, "0.9.0")


def test_nothing_is_found_where_install_was(staged: Path, tmp_path: Path) -> None:
    assert owner.find(str(staged)) is None
    assert owner.find(str(tmp_path / "empty")) is None


def test_files_in_etc_of_a_removed_package_are_still_its_own(tmp_path: Path) -> None:
    (tmp_path / "var/lib/dpkg/info").mkdir(parents=True)
    (tmp_path / launcher.DPKG).write_text("/etc/vfio-preflight.conf\n")
    assert owner.find(str(tmp_path)) == Owner("deb", "", removed=True)
    with pytest.raises(InstallError, match="apt purge vfio-preflight"):
        owner.refuse_install(str(tmp_path))
    owner.refuse_uninstall(str(tmp_path))


@pytest.mark.parametrize("content", ["", "[]", "{", '{"package": 7}', '{"package": "other"}'])
def test_strange_manifest_is_no_package(content: str, tmp_path: Path) -> None:
    make_version(tmp_path, "0.9.0").write_text(content)
    assert owner.find(str(tmp_path)) is None


def test_manifest_of_a_package_is_none_of_installs(tmp_path: Path) -> None:
    make_version(tmp_path, "0.9.0", package="deb")
    make_version(tmp_path, "0.9.0-0123abcd")
    assert set(read_all(str(tmp_path)).manifests) == {f"{LIBRARY}/0.9.0-0123abcd"}


@pytest.mark.parametrize(
    ("kind", "word", "told"),
    [
        ("deb", "install", "upgrade it with 'apt install vfio-preflight'"),
        ("rpm", "install", "upgrade it with 'dnf upgrade vfio-preflight'"),
        ("deb", "uninstall", "remove it with 'apt remove vfio-preflight'"),
        ("rpm", "uninstall", "remove it with 'dnf remove vfio-preflight'"),
    ],
)
def test_command_leaves_a_package_alone(
    kind: str, word: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_version(tmp_path, "0.9.0", package=kind)
    before = sorted(tmp_path.rglob("*"))
    assert main([word, "--root", str(tmp_path)]) == 2
    complaint = capsys.readouterr().err
    assert "the package vfio-preflight 0.9.0 is installed here" in complaint
    assert told in complaint
    assert sorted(tmp_path.rglob("*")) == before
