"""The file that starts the command, where what it starts is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unit.cli.installed import COMMAND, CURRENT, LIBRARY
from vfio_preflight.cli.installation import launcher, payload


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The installed command, as if ``root`` were the host's."""
    program = (
        "import runpy, sys\n"
        f"module = runpy.run_path({str(root / COMMAND)!r}, run_name='launcher')\n"
        f"sys.exit(module['start'](sys.argv[1:], {str(root)!r}))"
    )
    command = [sys.executable, "-I", "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def module(root: Path, name: str) -> Path:
    return (root / CURRENT).resolve() / "vfio_preflight" / name


def problems(root: Path) -> list[str]:
    place, manifest = launcher.in_force(str(root))
    found = [*launcher.damaged(str(root), manifest), *launcher.stray(str(root), place, manifest)]
    return [path.removeprefix(f"{root}/{LIBRARY}/") for path in found]


def test_whole_installation(root: Path) -> None:
    assert problems(root) == []
    done = run(root, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, "vfio-preflight 0.1.0\n", "")


def test_usage_error_is_the_commands_own(root: Path) -> None:
    done = run(root, "nonsense")
    assert done.returncode == 2 and "invalid choice" in done.stderr


@pytest.mark.parametrize("name", ["errors.py", "cli/main.py", "cli/doctor.py", "__main__.py"])
@pytest.mark.parametrize("damage", ["gone", "cut short", "other", "link", "not text"])
def test_broken_module_is_named(name: str, damage: str, root: Path) -> None:
    path = module(root, name)
    text = path.read_bytes()
    path.unlink()
    if damage == "link":
        path.symlink_to("/dev/null")
    elif damage != "gone":
        contents = {"cut short": text[:40], "other": b"def broken(:", "not text": b"\xff\0"}
        path.write_bytes(contents[damage])
    assert problems(root) == [f"{(root / CURRENT).readlink()}/vfio_preflight/{name}"]
    done = run(root, "doctor")
    assert (done.returncode, done.stderr) == (1, "")
    first, second = done.stdout.splitlines()[:2]
    assert first.startswith("problem   ") and first.endswith("[package-broken]")
    assert name in first and second.startswith("  to mend: ")
    value = json.loads(run(root, "doctor", "--format", "json").stdout)
    assert [each["code"] for each in value["problems"]] == ["package-broken"]
    # The others say so in one line, if they need it.
    if name != "cli/doctor.py":
        done = run(root, "history")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1) and name in done.stderr


def test_what_is_not_installed_is_named(root: Path) -> None:
    module(root, "errors").mkdir()
    module(root, "errors/__init__.py").touch()
    module(root, "pci/evil.py").touch()
    module(root, "pci/__pycache__").mkdir(exist_ok=True)
    current = (root / CURRENT).readlink()
    assert problems(root) == [
        f"{current}/vfio_preflight/{name}" for name in ("errors", "pci/evil.py")
    ]


def test_manifest_is_lost(root: Path) -> None:
    (root / CURRENT / "manifest.json").unlink()
    assert problems(root) == ["current/manifest.json"]


@pytest.mark.parametrize("damage", ["nowhere", "gone", "empty"])
def test_version_in_force_is_lost(damage: str, root: Path) -> None:
    link = root / CURRENT
    if damage in ("nowhere", "gone"):
        link.unlink()
    if damage == "nowhere":
        link.symlink_to("0.0.0-00000000")
    if damage == "empty":
        (link.parent / "empty").mkdir()
        link.unlink()
        link.symlink_to("empty")
    done = run(root, "doctor")
    assert done.returncode == 1 and "is broken" in done.stdout, done.stdout
    assert "/current" in done.stdout


def packaged(root: Path, kind: str, again: str) -> None:
    """Have an installation be one of a package's."""
    (manifest,) = (root / CURRENT).resolve().glob("manifest.json")
    value = {**json.loads(manifest.read_text()), "package": kind, "reinstall": again}
    manifest.write_text(json.dumps(value))


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_package_is_installed_again_by_its_package_manager(kind: str, root: Path) -> None:
    """Which goes over what is damaged, but for a directory."""
    packaged(root, kind, "install it")
    module(root, "errors.py").write_text("(")
    assert run(root, "history").stderr.endswith("; to mend: install it\n")
    module(root, "errors.py").unlink()
    module(root, "errors.py").mkdir()
    said = run(root, "history").stderr
    assert said.endswith(f"; to mend: rm -rf -- {module(root, 'errors.py')} && install it\n")


@pytest.mark.parametrize(
    ("prints", "status", "from_file"),
    [
        ("Reinstallation of vfio-preflight is not possible", 0, True),
        ("1 reinstalled\nInst vfio-preflight [0.1.0] (0.1.0 x)", 0, False),
        ("E: Unmet dependencies", 100, False),
    ],
)
def test_deb_of_no_archive(prints: str, status: int, from_file: bool, root: Path) -> None:
    packaged(root, "deb", "install it")
    apt = root / "usr/bin/apt-get"
    words = " ".join(launcher.APT[1:])
    lines = ("#!/bin/sh", f'[ "$*" = "{words}" ] || exit 9', f"echo '{prints}'", f"exit {status}")
    apt.write_text("\n".join(lines))
    apt.chmod(0o755)
    module(root, "errors.py").unlink()
    command = run(root, "history").stderr.partition("; to mend: ")[2]
    wanted = "apt-get install -y --reinstall ./vfio-preflight_0.1.0_*.deb # in the directory with"
    assert command.startswith(wanted if from_file else "install it\n")


def test_package_without_its_manifest(root: Path) -> None:
    """What is left tells that it is one, and of which kind."""
    (root / CURRENT / "manifest.json").write_text("{")
    assert launcher.repair(str(root), {}, []).startswith("make install")
    (root / CURRENT / "maintain").touch()
    assert launcher.repair(str(root), {}, []) == "dnf reinstall -y vfio-preflight"
    dpkg = root / "var/lib/dpkg/info/vfio-preflight.list"
    dpkg.parent.mkdir(parents=True)
    dpkg.touch()
    again = "apt-get install -y --reinstall vfio-preflight"
    assert launcher.repair(str(root), {}, []) == again


def test_failure_of_a_whole_package_is_one_line(root: Path) -> None:
    """A fault of this program's is no damage; what there is to be said of it is said."""
    path = module(root, "cli/history.py")
    path.write_text(
        path.read_text().replace(
            "def _directory() -> str:\n", "def _directory() -> str:\n    1 / 0\n"
        )
    )
    (manifest,) = (root / CURRENT).resolve().glob("manifest.json")
    value = json.loads(manifest.read_text())
    from vfio_preflight.cli.installation.files import digest

    value["files"][str(path.relative_to(root))] = digest(path.read_bytes())
    manifest.write_text(json.dumps(value))
    done = run(root, "history")
    assert (done.returncode, done.stderr) == (
        2,
        "vfio-preflight: the command failed (ZeroDivisionError: division by zero)"
        "; to mend: vfio-preflight doctor\n",
    )


def test_where_it_was_installed_from_is_in_the_manifest(root: Path) -> None:
    manifest = json.loads((root / CURRENT / "manifest.json").read_text())
    assert manifest["reinstall"] == payload.reinstall()
    assert "-m vfio_preflight install" in payload.reinstall()


@pytest.mark.parametrize(
    "name", ["plain", "a b", "it's", "$(id)", "a\nb", "\x1b[31m", "-n", "ü", "a;b", "\udcff", "*"]
)
def test_any_name_is_a_word_for_the_shell(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("")
    word = launcher.quoted(str(path))
    assert word.isprintable() and word.isascii()
    script = f'printf %s "x$(printf %s {word})"'
    said = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True).stdout
    assert said == b"x" + str(path).encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    "text",
    [
        '{"files": {}, "reinstall": 7}',
        '{"files": {"usr/lib/vfio-preflight/x": 5, "a": [1]}}',
        '{"files": {"/etc/passwd": "0"}}',
        '{"files": {"../etc/passwd": "MAIN"}, "reinstall": "true"}',
        '{"files": 1}',
        "[" * 100000,
        "\0",
    ],
)
def test_nothing_is_removed_by_a_manifest_that_lists_no_package(text: str, root: Path) -> None:
    """Its own text is damaged, and that is what is told of."""
    path = (root / CURRENT).resolve() / "manifest.json"
    path.unlink()
    path.write_text(text)
    assert problems(root) == ["current/manifest.json"]


def test_nothing_is_waited_for_in_place_of_a_module(root: Path) -> None:
    path = module(root, "pci/space.py")
    path.unlink()
    os.mkfifo(path)
    done = run(root, "doctor")
    assert (done.returncode, done.stderr) == (1, "") and "pci/space.py" in done.stdout


def test_nothing_is_waited_for_in_place_of_the_manifest(root: Path) -> None:
    path = (root / CURRENT).resolve() / "manifest.json"
    path.unlink()
    os.mkfifo(path)
    assert problems(root) == ["current/manifest.json"]
