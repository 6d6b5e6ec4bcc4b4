"""``doctor`` on a host with a package: what it says, and its commands, by real apt and rpm."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from vfio_preflight import __version__

from .conftest import Packages
from .target import CONFIGURATION, HOOK, LIBRARY, UNIT, Target

MODULES = f"{LIBRARY}/current/vfio_preflight"
# Kept there, as the host has no network: apt's sources, lists and cache, and the archive itself.
ARCHIVE = "/run/archive"
APT_CONF = "/etc/apt/apt.conf.d/99archive"
APT = f"""
Dir::Etc::sourcelist "{ARCHIVE}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "{ARCHIVE}/lists";
Dir::Cache "{ARCHIVE}/cache";
APT::Sandbox::User "root";
#clear DPkg::Post-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""
REINSTALL = "apt-get install -y --reinstall vfio-preflight"
# The version is not known where the manifest is lost.
FROM_FILE = "apt-get install -y --reinstall ./vfio-preflight_"
COMMAND = "/usr/bin/vfio-preflight"
# What is apt's own, and directories that many packages have: Debian's are not in rpm's database.
OTHERS = re.compile(r"/var/lib/apt|/usr/share/(licenses|fish|zsh|bash-completion)\S* d")
# What is planted, the fault's code, and what the command for it begins with: those that are found
# beside one another, which are planted at once, and the others (make package-test).
TOGETHER = (
    (f"rm {HOOK}", "hook-missing", "{reinstall}"),
    (f"truncate -s 100 {MODULES}/judge/model.py", "package-broken", "{reinstall}"),
    (f"rm {UNIT}", "file-changed", "{reinstall}"),
    (f"chmod a-x {COMMAND}", "command-not-executable", f"chmod 0755 {COMMAND}"),
    (f"rm {CONFIGURATION} && mkdir {CONFIGURATION}", "configuration-unreadable", "mv "),
)
PLANTS = (
    (f"echo exit 0 >>{HOOK}", "hook-changed", f"rm -rf -- {HOOK} && {{reinstall}}"),
    (f"truncate -s 100 {MODULES}/pci/space.py", "package-broken", "{reinstall}"),
    (f"rm {MODULES}/hook/gate.py", "package-broken", "{reinstall}"),
    (f"rm {MODULES}/cli/main.py && mkdir {MODULES}/cli/main.py", "package-broken",
     f"rm -rf -- {LIBRARY}/{__version__}/vfio_preflight/cli/main.py && {{reinstall}}"),
    (f"truncate -s 50 {LIBRARY}/current/manifest.json", "package-broken", "{reinstall}"),
    (f"rm {LIBRARY}/current", "package-broken", "{reinstall}"),
    (f"echo >>{COMMAND}", "file-changed", "{reinstall}"),
)  # fmt: skip
EVERY = PLANTS if os.environ.get("DOCTOR_EVERY") else ()


class Doctor:
    """A host with the package, whose libvirtd has found the hook; ``watch`` runs."""

    def __init__(self, target: Target) -> None:
        self.target = target
        target.host.reload()
        assert self.mended() == {"reload-pending", "watch-stopped"}

    def said(self) -> dict[str, str]:
        """The commands of the problems by their codes."""
        # Also where the command itself cannot be executed.
        done = self.target.run("/usr/bin/python3", "-I", COMMAND, "doctor")
        found = re.findall(r"^problem   .* \[([a-z-]+)\]\n  to mend: (.*)$", done.stdout, re.M)
        assert done.stderr == ""
        assert found or (done.returncode, done.stdout) == (0, "healthy\n"), done.stdout
        assert done.returncode == (1 if found else 0), done.stdout
        return dict(found)

    def run(self, command: str, directory: str = "/") -> None:
        done = self.target.run("sh", "-c", f"cd {directory} && {{ {command}\n}}")
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    def mended(self, directory: str = "/") -> set[str]:
        """The codes of all that was mended, by the commands that are printed."""
        codes = set[str]()
        for _ in range(5):
            problems = self.said()
            if not problems:
                break
            assert not codes & problems.keys(), problems
            codes |= problems.keys()
            for command in dict.fromkeys(problems.values()):
                self.run(command, directory)
            time.sleep(0.3)
        return codes

    def finds(
        self, plants: Iterable[tuple[str, str, str]], reinstall: str, directory: str = "/"
    ) -> None:
        for script, _, _ in plants:
            self.run(script)
        found = self.said()
        wanted = {code: command.format(reinstall=reinstall) for _, code, command in plants}
        # It reads the configuration, and looks for the version in force, as it starts.
        assert found.keys() - {"watch-outdated"} == wanted.keys(), found
        for code, command in wanted.items():
            assert found[code].startswith(command), found
        assert wanted.keys() <= self.mended(directory)

    def end(self) -> None:
        found = self.target.run("pgrep", "-f", "vfio-preflight watch").stdout.split()
        self.target.run("kill", *found)


@pytest.fixture
def target(bare: Target) -> Iterator[Target]:
    """A host as it was before any package, and is again afterwards."""
    before = bare.files()
    yield bare
    bare.run("dpkg", "--no-triggers", "--purge", "vfio-preflight")
    bare.run("sh", "-c", f"rm -rf {ARCHIVE} {APT_CONF} /run/rpm /usr/local/sbin/dnf")
    # What is the operator's: the file that doctor's command moved away.
    bare.run("sh", "-c", f"rm -rf {CONFIGURATION}.* /var/lib/vfio-preflight")
    assert [line for line in bare.files() ^ before if not OTHERS.match(line)] == []


def archive(target: Target, package: Path) -> Path:
    """An archive with the package, which apt knows of."""
    directory = target.host.path(ARCHIVE)
    for name in ("lists/partial", "cache/archives/partial", "pool"):
        (directory / name).mkdir(parents=True)
    shutil.copy(package, directory / "pool")
    scan = f"cd {ARCHIVE}/pool && dpkg-scanpackages --multiversion . >Packages"
    target.must("sh", "-c", scan)
    (directory / "sources.list").write_text("")
    target.write(APT_CONF, APT)
    return directory


@pytest.fixture
def doctor(target: Target, debs: Packages) -> Iterator[Doctor]:
    """A host with Debian's package, which apt can download."""
    directory = archive(target, debs.current)
    (directory / "sources.list").write_text(f"deb [trusted=yes] file:{ARCHIVE}/pool ./\n")
    target.must("apt-get", "update")
    target.must("apt-get", "install", "-y", "--no-install-recommends", "vfio-preflight")
    doctor = Doctor(target)
    yield doctor
    doctor.end()


def test_faults_of_a_deb_are_mended_by_apt(doctor: Doctor) -> None:
    doctor.finds(TOGETHER, REINSTALL)
    for plant in EVERY:
        doctor.finds([plant], REINSTALL)


def test_deb_that_came_as_a_file_is_reinstalled_from_it(target: Target, debs: Packages) -> None:
    """apt does nothing, and ends with 0, where it knows of no archive with the package."""
    archive(target, debs.current)
    target.must("apt-get", "install", "-y", f"{ARCHIVE}/pool/{debs.current.name}")
    doctor = Doctor(target)
    try:
        doctor.finds(TOGETHER[:1], FROM_FILE, f"{ARCHIVE}/pool")
        for plant in EVERY:
            doctor.finds([plant], FROM_FILE, f"{ARCHIVE}/pool")
    finally:
        doctor.end()


def test_faults_of_an_rpm_are_mended_by_dnf(target: Target, rpms: Packages) -> None:
    """With a stand-in, as Debian has no dnf: it calls rpm as dnf does."""
    rpm, again = "rpm --root / --dbpath /run/rpm", "dnf reinstall -y vfio-preflight"
    target.must(*rpm.split(), "--install", "--nodeps", rpms.current)
    target.host.path("/usr/local/sbin").mkdir(exist_ok=True)
    target.write(
        "/usr/local/sbin/dnf",
        f'#!/bin/sh\n[ "dnf $*" = "{again}" ] || exit 1\n'
        f"exec {rpm} --upgrade --replacepkgs --nodeps {rpms.current}\n",
    )
    target.must("chmod", "755", "/usr/local/sbin/dnf")
    doctor = Doctor(target)
    try:
        doctor.finds(TOGETHER, again)
        for script, code, command in EVERY:
            at = f"{LIBRARY}/{__version__}"
            doctor.finds([(script, code, command.replace(f"{at}/", f"{at}-1/"))], again)
    finally:
        doctor.end()
        target.run(*rpm.split(), "--erase", "--nodeps", "vfio-preflight")
