"""Debian's package as a file: what it holds, needs and says, and what lintian thinks of it."""

from __future__ import annotations

import json
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from vfio_preflight import __version__

from .conftest import CHECKOUT, Packages
from .target import CONFIGURATION, HOOK, LIBRARY, UNIT

VERSION = f"{LIBRARY}/{__version__}"


def out(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tree(debs: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tree")
    out("dpkg-deb", "--raw-extract", debs.current, directory)
    return directory


def test_needs_what_the_distribution_has(debs: Packages) -> None:
    fields = out("dpkg-deb", "--field", debs.current, "Version", "Depends", "Recommends")
    version, *needed = fields.splitlines()
    assert version == f"Version: {__version__}"
    assert all(
        name in fields for name in ("python3-lxml", "python3-libvirt", "libc6", "python3:any")
    )
    assert "python3-rich" in needed[-1]


def test_lintian_is_content(
    debs: Packages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # Lintian leaves files behind.
    changes = next(debs.current.parent.glob("*.changes"))
    command = ("lintian", "--allow-root", "--fail-on", "error,warning,info", "--pedantic", changes)
    assert out(*command) == ""


def test_each_override_is_explained(tree: Path) -> None:
    overrides = (tree / "usr/share/lintian/overrides/vfio-preflight").read_text().splitlines()
    for before, line in zip(overrides, overrides[1:]):
        assert line.startswith("#") or before.startswith("#")


def test_configuration_files_are_conffiles_and_the_hook_is_none(tree: Path) -> None:
    conffiles = (tree / "DEBIAN/conffiles").read_text().split()
    rules = [f"/{path.relative_to(CHECKOUT)}" for path in CHECKOUT.glob("etc/vendor-rules.d/*.ini")]
    expected = [CONFIGURATION, *(f"/etc/vfio-preflight{rule[4:]}" for rule in rules)]
    assert sorted(path for path in conffiles if "apparmor" not in path) == sorted(expected)
    # dpkg's copies of it beside itself would be executable, and run by libvirt.
    assert list((tree / "etc/libvirt/hooks/qemu.d").iterdir()) == []
    assert HOOK not in conffiles


def test_whole_package_is_there_and_as_its_manifest_says(tree: Path) -> None:
    manifest = json.loads((tree / VERSION[1:] / "manifest.json").read_text())
    assert manifest["package"] == "deb"
    for path, digest in manifest["files"].items():
        # debhelper of Debian 12 has the unit in /lib, which is the same place on a host.
        at = tree / path if (tree / path).exists() else tree / path.removeprefix("usr/")
        assert sha256(at.read_bytes()).hexdigest() == digest, path
    assert UNIT[1:] in manifest["files"]
    ours = {str(path.relative_to(CHECKOUT / "plugin")) for path in CHECKOUT.glob("plugin/**/*.py")}
    top = tree / VERSION[1:]
    assert {str(path.relative_to(top)) for path in top.rglob("*.py")} == ours
    assert {f"{VERSION[1:]}/{name}" for name in ours} <= set(manifest["files"])


def test_made_up_device_of_trials_is_compiled(tree: Path) -> None:
    shim = tree / VERSION[1:] / "vfio_preflight/qemu/trial/fakevfio.so"
    assert shim.read_bytes().startswith(b"\x7fELF")


def test_scripts_are_shell_that_parses(tree: Path) -> None:
    for name in ("preinst", "postinst", "prerm", "postrm"):
        text = (tree / "DEBIAN" / name).read_text()
        assert "@" not in text.replace("$@", "")
        out("sh", "-n", tree / "DEBIAN" / name)
