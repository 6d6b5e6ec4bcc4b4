"""Debian's package on a host: installed, upgraded, removed and purged by a real dpkg."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vfio_preflight import __version__

from .conftest import CHECKOUT, NEWER, Packages
from .target import BLOCKS, CONFIGURATION, GUEST, HOOK, LIBRARY, RULE, XML, Target

USUAL = "/var/lib/prometheus/node-exporter"
BLOCKED = "vfio-preflight: migration blocked: "


@pytest.fixture
def target(bare: Target) -> Iterator[Target]:
    """A host as it was before any package, and is again afterwards."""
    before = bare.files()
    yield bare
    bare.run("dpkg", "--no-triggers", "--purge", "vfio-preflight")
    assert bare.files() ^ before == set()


def install_from(checkout: Path, target: Target) -> str:
    return target.must(*command(checkout, "install"))


def command(checkout: Path, word: str) -> tuple[str, ...]:
    return ("env", f"PYTHONPATH={checkout}/plugin", "/usr/bin/python3", "-B", "-m",
            "vfio_preflight", word)  # fmt: skip


def test_from_first_installation_to_purge(target: Target, debs: Packages) -> None:
    # libvirt found no hook when it started; what says so is the code that "install" has.
    said = target.dpkg("--install", debs.current)
    assert "systemctl reload libvirtd" in said
    assert target.versions() == {__version__, f"current {__version__}"}
    assert target.must("stat", "-c", "%a %U", HOOK).split() == ["755", "root"]
    assert target.exists("/etc/systemd/system/multi-user.target.wants/vfio-preflight-watch.service")
    target.write(CONFIGURATION, BLOCKS)
    assert target.arrives() == ""
    target.host.reload()
    assert BLOCKED in target.arrives()
    assert target.must("vfio-preflight", "--version").strip() == f"vfio-preflight {__version__}"

    # An upgrade, in which the shipped configuration has changed as well: the operator's stays.
    said = target.dpkg("--force-confold", "--install", debs.newer)
    assert "reload" not in said
    assert target.read(CONFIGURATION) == BLOCKS
    assert target.read(RULE).startswith(f"# {NEWER}\n")
    assert target.versions() == {NEWER, f"current {NEWER}"}
    assert BLOCKED in target.arrives()
    # dpkg's copies beside configuration files would be hooks.
    assert target.must("ls", "-A", "/etc/libvirt/hooks/qemu.d").split() == ["50-vfio-preflight"]

    # Removed: libvirt runs as before, the operator's configuration waits.
    target.dpkg("--remove", "vfio-preflight")
    assert not target.exists(HOOK)
    assert not target.exists(LIBRARY)
    assert not target.exists("/run/vfio-preflight")
    assert target.read(CONFIGURATION) == BLOCKS
    assert target.arrives() == ""

    # Once more, in which dpkg gives the version that was configured once.
    target.dpkg("--install", debs.newer)
    assert BLOCKED in target.arrives()
    target.host.path("/var/lib/vfio-preflight/states/nvidia-63").write_text("")
    target.dpkg("--purge", "vfio-preflight")
    assert target.run("sh", "-c", "ls /var/lib/dpkg/info/vfio-preflight*").returncode != 0


@pytest.mark.parametrize("edited", [False, True], ids=["as installed", "edited"])
def test_takes_over_from_an_older_make_install(
    edited: bool, target: Target, debs: Packages
) -> None:
    install_from(CHECKOUT, target)
    target.host.reload()
    # The hook of earlier versions had other words.
    older = target.read(HOOK).replace("put here by its package, or else by", "put here by")
    make_older(target, older)
    if edited:
        target.write(CONFIGURATION, BLOCKS)
    else:
        target.write("/etc/vfio-preflight/vendor-rules.d/own.ini", "[own]\n")
    said = target.dpkg(*(["--force-confold"] if edited else []), "--install", debs.newer)
    assert "took over from 'vfio-preflight install'" in said
    assert target.versions() == {NEWER, f"current {NEWER}"}
    assert target.read(HOOK) != older
    # What nobody changed is the package's, without a question.
    assert target.read(RULE).startswith(f"# {NEWER}\n")
    if edited:
        assert target.read(CONFIGURATION) == BLOCKS
    else:
        assert target.read(CONFIGURATION).startswith(f"# {NEWER}\n")
        target.write(CONFIGURATION, BLOCKS)
        # The operator's own file; purge takes nothing of that.
        target.must("rm", "/etc/vfio-preflight/vendor-rules.d/own.ini")
    assert not target.run("sh", "-c", "ls /etc/*before* /etc/vfio-preflight/*/*before*").stdout
    assert BLOCKED in target.arrives()


def make_older(target: Target, hook: str) -> None:
    """Have an installation be one of an older version, with its own words in the hook's entry."""
    script = f"""
import hashlib, json, sys
path = "{LIBRARY}/current/manifest.json"
manifest = json.load(open(path))
text = sys.stdin.read()
open("{HOOK}", "w").write(text)
manifest["files"]["{HOOK[1:]}"] = hashlib.sha256(text.encode()).hexdigest()
json.dump(manifest, open(path, "w"))
"""
    done = target.host.run(["/usr/bin/python3", "-c", script], stdin=hook)
    assert done.returncode == 0, done.stderr


def test_install_and_package_keep_to_themselves(target: Target, debs: Packages) -> None:
    target.dpkg("--install", debs.current)
    for word, told in (("install", "apt install"), ("uninstall", "apt remove vfio-preflight")):
        for words in (command(CHECKOUT, word), ("vfio-preflight", word)):
            done = target.run(*words)
            assert done.returncode == 2
            assert f"the package vfio-preflight {__version__} is installed here" in done.stderr
            assert told in done.stderr
            assert len(done.stderr.splitlines()) == 1
    target.dpkg("--remove", "vfio-preflight")
    done = target.run(*command(CHECKOUT, "install"))
    assert done.returncode == 2
    assert "apt purge vfio-preflight" in done.stderr
    target.dpkg("--purge", "vfio-preflight")
    install_from(CHECKOUT, target)
    target.must(*command(CHECKOUT, "uninstall"))
    target.must("rm", "-r", "/run/vfio-preflight")


def test_what_the_operator_did_with_the_hook_stays(target: Target, debs: Packages) -> None:
    target.dpkg("--install", debs.current)
    target.must("rm", HOOK)
    said = target.dpkg("--install", debs.newer)
    assert f"{HOOK} was removed, and is not put back" in said
    assert not target.exists(HOOK)
    # What the message says: the same version once more.
    target.dpkg("--install", debs.newer)
    assert target.exists(HOOK)
    target.must("chmod", "644", HOOK)
    said = target.dpkg("--force-downgrade", "--install", debs.current)
    assert f"{HOOK} is not executable" in said
    target.must("chmod", "755", HOOK)
    changed = target.read(HOOK) + "# mine\n"
    target.write(HOOK, changed)
    assert f"{HOOK} was changed, and is kept" in target.dpkg("--install", debs.newer)
    assert target.read(HOOK) == changed
    assert "was changed, and stays" in target.dpkg("--remove", "vfio-preflight")
    assert target.read(HOOK) == changed


def test_metrics_are_no_longer_shown(target: Target, debs: Packages) -> None:
    # Of the time before the configuration was changed. The node exporter's package may be there.
    was_there = target.exists(USUAL)
    target.dpkg("--install", debs.current)
    files = [target.shows_metrics(directory) for directory in (USUAL, "/var/lib/text files")]
    # An upgrade takes nothing of it.
    target.dpkg("--force-confold", "--install", debs.newer)
    assert all(map(target.exists, files))
    target.dpkg("--remove", "vfio-preflight")
    assert not any(map(target.exists, files))
    target.must("rmdir", "/var/lib/text files")
    if not was_there:
        target.must("rmdir", "-p", "--ignore-fail-on-non-empty", USUAL)


def test_hook_that_does_not_answer_fails_the_installation(target: Target, debs: Packages) -> None:
    # lxml that cannot be loaded; dpkg knows nothing of it.
    lxml = target.must("/usr/bin/python3", "-c", "import lxml.etree as e; print(e.__file__)")
    target.must("mv", lxml.strip(), "/run/lxml")
    done = target.run("dpkg", "--install", debs.current)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "cannot load lxml" in done.stderr
    assert not target.exists(HOOK)
    target.must("mv", "/run/lxml", lxml.strip())
    target.dpkg("--configure", "vfio-preflight")
    assert target.exists(HOOK)


def test_hooks_that_run_during_upgrades_judge(target: Target, debs: Packages) -> None:
    target.dpkg("--install", debs.current)
    target.write(CONFIGURATION, BLOCKS)
    target.write("/run/guest.xml", XML)
    words = [HOOK, GUEST, "/run/guest.xml", "/run/enough"]
    caller = target.host.popen(["/usr/bin/python3", CHECKOUT / "tests/packages/calls.py", *words])
    try:
        for package in (debs.newer, debs.current, debs.newer):
            target.dpkg("--force-confold", "--force-downgrade", "--install", package)
        time.sleep(0.5)
    finally:
        target.must("touch", "/run/enough")
        said = caller.communicate(timeout=60)[0]
    target.must("rm", "/run/enough", "/run/guest.xml")
    calls, judged = map(int, said.split())
    assert calls > 10
    assert judged == calls
