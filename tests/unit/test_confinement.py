"""AppArmor profile, SELinux policy, systemd unit: taken by the real tools, no wider than said.

What they do to a running hook is tried in the virtual machine (tests/vm/scripts).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
APPARMOR = CHECKOUT / "etc/apparmor.d"
SELINUX = CHECKOUT / "etc/selinux"
UNIT = CHECKOUT / "etc/vfio-preflight-watch.service"
DEVEL = Path("/usr/share/selinux/devel/Makefile")
# Converts a policy package into CIL, a text.
TO_CIL = Path("/usr/libexec/selinux/hll/pp")

CAPABILITIES = {"sys_admin", "sys_ptrace", "dac_read_search", "setuid", "setgid", "kill", "chown"}
# Where the hook may write by its AppArmor profile.
WRITTEN = (
    r"@\{run\}/vfio-preflight/|/var/\{cache,lib\}/vfio-preflight/|/var/log/vfio-preflight"
    r"|/\{,var/\}tmp/vfio-preflight-\*|/dev/(iommu|vfio/)|@\{PROC\}/@\{pid\}/task/@\{tid\}/comm"
)
# What others own that the hook may write to by its SELinux policy: devices, syslog, a terminal.
WRITTEN_TYPES = {"vfio_device_t", "devlog_t", "console_device_t"}
CHANGES = {"write", "append", "create", "unlink", "rename", "setattr", "link", "relabelto"}


def run(*command: str | Path) -> str:
    """The output of a tool that must succeed."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def needed(name: str | Path) -> str:
    """A tool's path."""
    found = shutil.which(str(name), path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        pytest.skip(f"{name} is missing; tests/setup-debian installs it")
    return found


# --- AppArmor ---------------------------------------------------------------------------------


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    """The machine's profiles and ours, as in /etc/apparmor.d."""
    base = tmp_path / "apparmor.d"
    shutil.copytree("/etc/apparmor.d", base, symlinks=True)
    shutil.copytree(APPARMOR, base, dirs_exist_ok=True)
    (base / "local").mkdir(exist_ok=True)
    return base


def compile_profile(base: Path, name: str) -> bytes:
    """The profile as the kernel takes it; nothing is loaded."""
    parser = needed("apparmor_parser")
    output = base / "compiled"
    options = ("--skip-kernel-load", "--skip-cache", "--ofile", str(output))
    run(parser, "--base", base, *options, base / name)
    return output.read_bytes()


def test_apparmor_parser_takes_the_profile(profiles: Path) -> None:
    compiled = compile_profile(profiles, "vfio-preflight")
    for name in (b"vfio-preflight\0", b"emulator\0", b"decompressor\0"):
        assert name in compiled


def test_libvirts_profile_with_the_rule_runs_the_hook_in_its_own(profiles: Path) -> None:
    needed("apparmor_parser")
    if not (profiles / "usr.sbin.libvirtd").exists():
        pytest.skip("libvirt-daemon of this machine has no AppArmor profile")
    without = compile_profile(profiles, "usr.sbin.libvirtd")
    local = profiles / "local/usr.sbin.libvirtd"
    local.write_text("include if exists <abstractions/vfio-preflight>\n")
    assert len(compile_profile(profiles, "usr.sbin.libvirtd")) > len(without)


def rules() -> list[str]:
    """The rules of the hook's profile, without what it includes."""
    text = re.sub(r"(?m)#.*$", "", (APPARMOR / "vfio-preflight").read_text())
    return [rule.strip() for rule in re.findall(r"(?m)^  (.*),$", text)]


def test_the_profile_has_these_capabilities_and_no_others() -> None:
    found = [rule.split()[1] for rule in rules() if rule.startswith("capability")]
    assert set(found) == CAPABILITIES and len(found) == len(CAPABILITIES)


def test_the_profile_writes_nothing_but_its_own_files_and_devices() -> None:
    files = [rule.split() for rule in rules() if rule.startswith(("/", "@"))]
    assert len(files) > 30
    for path, mode, *_ in files:
        assert not set(mode) & set("wa") or path.endswith("/stream") or re.match(WRITTEN, path)


def test_nothing_that_the_profile_runs_is_without_a_profile() -> None:
    for rule in rules():
        if rule.startswith(("/", "@")):
            mode = rule.split()[1]
            assert not re.search(r"[UuPp]", mode), rule


# --- SELinux ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cil(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The module, compiled by the distribution's Makefile, as text."""
    if not DEVEL.exists() or not TO_CIL.exists():
        pytest.skip("selinux-policy-dev is missing; tests/setup-debian installs it")
    work = tmp_path_factory.mktemp("selinux")
    for path in SELINUX.iterdir():
        shutil.copy(path, work)
    run("make", "-C", work, "-f", DEVEL, "vfio_preflight.pp")
    return run(TO_CIL, work / "vfio_preflight.pp")


def allowed(cil: str, source: str) -> list[tuple[str, str, set[str]]]:
    """Target type, class and permissions of each rule."""
    found = re.findall(rf"\(allow {source} (\S+) \((\S+) \((.*?)\)\)\)", cil)
    return [(target, kind, set(permissions.split())) for target, kind, permissions in found]


@pytest.mark.parametrize("domain", ["vfio_preflight_t", "vfio_preflight_emulator_t"])
def test_the_domain_changes_nothing_but_its_own_files(cil: str, domain: str) -> None:
    files = {"file", "lnk_file", "chr_file", "blk_file", "sock_file"}
    found = allowed(cil, domain)
    assert len(found) > 30
    for target, kind, permissions in found:
        if kind in files and permissions & CHANGES:
            ours = target.startswith("vfio_preflight_") and target != "vfio_preflight_exec_t"
            assert ours or target in WRITTEN_TYPES, (target, kind)


def test_the_hook_has_these_capabilities_and_emulators_none(cil: str) -> None:
    wanted: dict[str, set[str]] = {"vfio_preflight_t": CAPABILITIES}
    for domain in ("vfio_preflight_t", "vfio_preflight_emulator_t"):
        found = [rule[2] for rule in allowed(cil, domain) if rule[1].startswith("cap")]
        assert set().union(*found) == wanted.get(domain, set())


def test_the_domain_is_confined_by_nobodys_exception(cil: str) -> None:
    assert "unconfined" not in cil and "typepermissive" not in cil
    # On Fedora it names another daemon.
    assert "virt_hooks_unconfined" not in cil
    for daemon in ("virtd_t", "virtqemud_t"):
        transition = f"(typetransition {daemon} vfio_preflight_exec_t process vfio_preflight_t)"
        assert transition in cil


def test_emulators_reach_no_network_and_no_device(cil: str) -> None:
    for target, kind, _ in allowed(cil, "vfio_preflight_emulator_t"):
        assert kind not in ("tcp_socket", "udp_socket", "blk_file", "packet_socket")
        assert kind != "chr_file" or target in ("urandom_device_t", "console_device_t")


# --- systemd ----------------------------------------------------------------------------------


def test_the_unit_is_exposed_no_more_than_this() -> None:
    """Of 10; what is left of it, and why, is in the unit's comments."""
    tool = needed("systemd-analyze")
    run(tool, "security", "--offline=true", "--threshold=30", UNIT)


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    tool = needed("systemd-analyze")
    unit = tmp_path / UNIT.name
    # The command is not installed here.
    unit.write_text(UNIT.read_text().replace("/usr/bin/vfio-preflight", "/usr/bin/true"))
    done = subprocess.run([tool, "verify", unit], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and UNIT.name not in done.stderr, done.stderr
