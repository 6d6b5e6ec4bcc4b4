"""The rpm: what it holds, needs and runs, what rpmlint thinks of it, and its life on a host."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vfio_preflight import __version__

from .conftest import CHECKOUT, NEWER, Packages
from .target import BLOCKS, CONFIGURATION, HOOK, LIBRARY, RULE, Target
from .test_deb import out

CURRENT = f"{LIBRARY}/current"
# What is owned by nobody else on a host, and so must be by this package.
OWNED = (
    *(HOOK, CONFIGURATION, RULE, CURRENT, "/usr/bin/vfio-preflight"),
    *("/usr/lib/systemd/system/vfio-preflight-watch.service", "/var/cache/vfio-preflight"),
    *("/usr/share/man/man1/vfio-preflight.1.gz", "/usr/share/man/man8/vfio-preflight-hook.8.gz"),
    *("/usr/share/bash-completion/completions/vfio-preflight", "/var/lib/vfio-preflight/states"),
    *("/usr/share/zsh/site-functions/_vfio-preflight",),
    *("/usr/share/fish/vendor_completions.d/vfio-preflight.fish",),
)


def query(package: Path, *words: str) -> list[str]:
    return out("rpm", "--query", "--package", *words, package).splitlines()


def test_file_list(rpms: Packages) -> None:
    files = query(rpms.current, "--list")
    assert set(OWNED) <= set(files)
    version = f"{LIBRARY}/{__version__}-1"
    modules = CHECKOUT.glob("plugin/vfio_preflight/**/*.py")
    ours = {f"{version}/{path.relative_to(CHECKOUT / 'plugin')}" for path in modules}
    assert {path for path in files if path.endswith(".py")} == ours
    # Compiled for the Python of the distribution that built it.
    compiled = [path for path in files if path.endswith(".pyc")]
    assert len(compiled) == len(ours)
    outside = ("/etc/", "/usr/", "/var/cache/vfio-preflight", "/var/lib/vfio-preflight")
    assert all(path.startswith(outside) for path in files)


def test_configuration_is_kept_and_the_hook_is_replaced(rpms: Packages) -> None:
    rules = {f"/etc/vfio-preflight/vendor-rules.d/{path.name}"
             for path in CHECKOUT.glob("etc/vendor-rules.d/*.ini")}  # fmt: skip
    assert set(query(rpms.current, "--configfiles")) == {CONFIGURATION, *rules}
    flags = query(rpms.current, "--queryformat", "[%{FILENAMES} %{FILEFLAGS:fflags}\n]")
    assert f"{CONFIGURATION} cn" in flags
    assert f"{CURRENT} g" in flags


def test_needs_what_the_distribution_has(rpms: Packages) -> None:
    needed = query(rpms.current, "--requires")
    assert {"/usr/bin/python3", "python3-lxml", "python3-libvirt"} <= set(needed)
    assert "python3-rich" in query(rpms.current, "--recommends")
    assert not any(name.startswith("python(abi)") for name in needed)


def test_scriptlets(rpms: Packages) -> None:
    text = "\n".join(query(rpms.current, "--scripts"))
    for kind in ("postinstall", "preuninstall", "postuninstall"):
        assert f"{kind} scriptlet (using /bin/sh)" in text
    assert f"{LIBRARY}/{__version__}-1/maintain configure" in text
    # A macro that this rpmbuild does not know would stand there as it is written.
    assert "%" not in text


def test_rpmlint_is_content(rpms: Packages) -> None:
    command = ["rpmlint", "-c", str(CHECKOUT / "packages/rpm/rpmlint.toml")]
    done = subprocess.run(
        [*command, *rpms.current.parent.glob("*.rpm")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "0 errors, 0 warnings" in done.stdout


def test_policy_is_a_package_of_its_own(rpms: Packages) -> None:
    policies = [*rpms.current.parent.glob("*-selinux-*.noarch.rpm")]
    assert len(policies) == (CHECKOUT / "etc/selinux").is_dir()
    for policy in policies:
        policy_is_whole(policy, rpms)


def policy_is_whole(policy: Path, rpms: Packages) -> None:
    module = "/usr/share/selinux/packages/targeted/vfio_preflight.pp.bz2"
    assert query(policy, "--list") == [module]
    assert f"vfio-preflight = {__version__}" in query(policy, "--requires")
    needed = query(rpms.current, "--requires")
    assert "(vfio-preflight-selinux if selinux-policy-targeted)" in needed
    text = "\n".join(query(policy, "--scripts"))
    assert f"semodule -n -s targeted -X 200 -i {module}" in text
    assert "semodule -n -s targeted -X 200 -r vfio_preflight" in text


# --- on a host -----------------------------------------------------------------------------------


@pytest.fixture
def target(bare: Target) -> Iterator[Target]:
    """A host with rpm's database in /run, as Debian has none; its dependencies are not in that."""
    before = bare.files()
    yield bare
    rpm(bare, "--erase", "--nodeps", "vfio-preflight", check=False)
    # What is the operator's after that: the configuration, and what was learned.
    kept = "/var/lib/vfio-preflight /etc/vfio-preflight.conf.rpm*"
    bare.must("sh", "-c", f"rm -rf /run/rpm {kept}")
    # Of directories that many packages have, Debian's are not in rpm's database.
    shared = re.compile(r"/usr/share/(licenses|fish|zsh|bash-completion)\S* d")
    assert [line for line in bare.files() ^ before if not shared.match(line)] == []


def rpm(target: Target, *words: str | Path, check: bool = True) -> str:
    command = ("rpm", "--root", "/", "--dbpath", "/run/rpm", *words)
    done = target.run(*command)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_life_on_a_host(target: Target, rpms: Packages) -> None:
    rpm(target, "--install", "--nodeps", rpms.current)
    assert target.must("readlink", CURRENT).strip() == f"{__version__}-1"
    assert (
        rpm(target, "--query", "--file", HOOK).strip().startswith(f"vfio-preflight-{__version__}")
    )
    target.write(CONFIGURATION, BLOCKS)
    target.host.reload()
    assert "vfio-preflight: migration blocked: " in target.arrives()
    assert "dnf upgrade vfio-preflight" in target.run("vfio-preflight", "install").stderr

    # The operator's configuration stays, and the shipped one lies beside it.
    rpm(target, "--upgrade", "--nodeps", rpms.newer)
    assert target.read(CONFIGURATION) == BLOCKS
    assert target.exists(f"{CONFIGURATION}.rpmnew")
    assert target.read(RULE).startswith(f"# {NEWER}\n")
    assert target.versions() == {f"{NEWER}-1", f"current {NEWER}-1"}
    assert "vfio-preflight: migration blocked: " in target.arrives()
    assert target.must("ls", "-A", "/etc/libvirt/hooks/qemu.d").split() == ["50-vfio-preflight"]
    assert rpm(target, "--verify", "--nodeps", "vfio-preflight", check=False).split() == [
        *("S.5....T.", "c", CONFIGURATION)
    ]

    metrics = target.shows_metrics("/run/textfiles")
    target.write(CONFIGURATION, target.read(CONFIGURATION) + BLOCKS)
    rpm(target, "--erase", "--nodeps", "vfio-preflight")
    assert not target.exists(metrics)
    target.must("rmdir", "/run/textfiles")
    assert not target.exists(HOOK)
    assert not target.exists(LIBRARY)
    assert target.read(f"{CONFIGURATION}.rpmsave").endswith(BLOCKS)
    assert target.arrives() == ""


def test_takes_over_from_make_install(target: Target, rpms: Packages) -> None:
    environment = f"PYTHONPATH={CHECKOUT}/plugin"
    target.must("env", environment, "/usr/bin/python3", "-B", "-m", "vfio_preflight", "install")
    target.write(CONFIGURATION, BLOCKS)
    target.host.reload()
    assert not target.read(RULE).startswith(f"# {NEWER}")
    said = rpm(target, "--install", "--nodeps", rpms.newer)
    assert "took over from 'vfio-preflight install'" in said
    assert target.versions() == {f"{NEWER}-1", f"current {NEWER}-1"}
    assert target.read(CONFIGURATION) == BLOCKS
    # What nobody changed is the package's.
    assert target.read(RULE).startswith(f"# {NEWER}\n")
    assert "vfio-preflight: migration blocked: " in target.arrives()
