"""``install`` on a real host: whole or not at all, and then libvirt runs the hook."""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from lab import Host, Lab, guest_xml
from vfio_preflight.cli.installation.payload import ENTRY

from .pair import CHECKOUT, NEW

KILLS = int(os.environ.get("INSTALL_KILLS", "12"))
SEED = int(os.environ.get("KILLS_SEED", random.randrange(1 << 32)))
HOOK = "/etc/libvirt/hooks/qemu.d/50-vfio-preflight"
LIBRARY = "/usr/lib/vfio-preflight"
CALLS = "/run/calls"
PLACES = ("/usr/lib/vfio-preflight*", "/usr/bin/*vfio-preflight*", "/etc/*vfio-preflight*",
          "/etc/libvirt/hooks", "/usr/lib/systemd/system/*vfio-preflight*")  # fmt: skip
# Where the machine's own Python is found while another one is in its place.
REAL = "/usr/bin/python3-real"


class Checkouts:
    """Two checkouts of the project, of which one is an older version."""

    def __init__(self, directory: Path) -> None:
        self.paths = {"old": directory / "old", "new": directory / "new"}
        for name, path in self.paths.items():
            for part in ("plugin", "hooks", "etc"):
                ignored = shutil.ignore_patterns("__pycache__", "*.so")
                shutil.copytree(CHECKOUT / part, path / part, ignore=ignored)
            for module in (path / "plugin/vfio_preflight").rglob("*.py"):
                module.write_text(f"{module.read_text()}# {name}\n")
            # The command and a file of rules, in other directories, are other ones too.
            payload = path / "plugin/vfio_preflight/cli/installation/payload.py"
            payload.write_text(
                payload.read_text().replace("python3 -I\n", f"python3 -I\n# {name}\n")
            )
            rules = path / "etc/vendor-rules.d/nvidia.ini"
            rules.write_text(f"# {name}\n{rules.read_text()}")

    def command(
        self, name: str, word: str = "install", python: str = "/usr/bin/python3"
    ) -> list[str]:
        plugin = self.paths[name] / "plugin"
        return ["env", f"PYTHONPATH={plugin}", python, "-B", "-m", "vfio_preflight", word]


@pytest.fixture(scope="module")
def checkouts(tmp_path_factory: pytest.TempPathFactory) -> Checkouts:
    return Checkouts(tmp_path_factory.mktemp("checkouts"))


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts on which nothing is installed."""
    with Lab(tmp_path_factory.mktemp("bare")) as lab:
        lab.a.define(guest_xml("visitor", NEW))
        yield lab


@pytest.fixture
def host(hosts: Lab, checkouts: Checkouts) -> Iterator[Host]:
    """Host b, where libvirt has found no hook."""
    host = hosts.b
    yield host
    host.run(checkouts.command("new", "uninstall"))
    shutil.rmtree(host.hooks)
    host.hooks.mkdir()


def install(host: Host, checkouts: Checkouts, name: str = "new") -> str:
    done = host.run(checkouts.command(name))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def libvirt_calls(hosts: Lab, host: Host) -> str:
    """What libvirt on ``host`` calls our hook with as a guest arrives."""
    hook = host.path(f"{LIBRARY}/current/hook")
    sound = hook.read_text() if hook.exists() else ""
    host.path(CALLS).write_text("")
    if sound:
        hook.write_text(f'echo "$1 $2 $3 $4" >>{CALLS}\n{sound}')
    moved = hosts.a.virsh("migrate", "--offline", "--persistent", "visitor", host.uri)
    if sound:
        hook.write_text(sound)
    assert moved.returncode == 0, moved.stderr
    host.virsh("undefine", "visitor").check_returncode()
    return host.path(CALLS).read_text()


CALLED = "visitor migrate begin -\n"


# --- whether a reload is needed ------------------------------------------------------------------


def arrange(host: Host, kind: str) -> None:
    """What is in the directory of hooks when libvirt starts."""
    directory = host.hooks / "qemu.d"
    directory.mkdir()
    script = directory / "10-other"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755 if kind in ("hook", "link") else 0o644)
    if kind == "directories":
        script.unlink()
        (directory / "10-other").mkdir()
        (host.hooks / "qemu").mkdir()
    elif kind == "not executable":
        (directory / "README").write_text("Put hooks here.\n")
        script.rename(host.hooks / "qemu")
    elif kind == "link":
        script.rename(host.hooks / "elsewhere")
        script.symlink_to("../elsewhere")
    elif kind == "one of lxc":
        script.chmod(0o755)
        script.rename(host.hooks / "lxc")
    # File times and process times may disagree by a moment.
    time.sleep(1.5)


@pytest.mark.parametrize(
    ("kind", "needed"),
    [
        ("directories", True),
        ("not executable", True),
        ("one of lxc", True),
        ("hook", False),
        ("link", False),
    ],
)
def test_reload_is_told_exactly_where_it_is_needed(
    kind: str, needed: bool, host: Host, hosts: Lab, checkouts: Checkouts
) -> None:
    host.stop_libvirtd()
    arrange(host, kind)
    host.start_libvirtd()
    said = install(host, checkouts)
    assert ("This is this host's first qemu hook" in said) == needed
    assert ("no reload needed" in said) != needed
    assert libvirt_calls(hosts, host) == ("" if needed else CALLED)
    host.reload()
    assert libvirt_calls(hosts, host) == CALLED


def test_daemon_that_does_not_run_finds_the_hook(
    host: Host, hosts: Lab, checkouts: Checkouts
) -> None:
    host.stop_libvirtd()
    assert "no libvirt daemon is running" in install(host, checkouts)
    host.start_libvirtd()
    assert libvirt_calls(hosts, host) == CALLED
    # What was found then is still known to be found, by an upgrade too.
    time.sleep(1.5)
    host.stop_libvirtd()
    host.start_libvirtd()
    assert "no reload needed" in install(host, checkouts, "old")
    assert libvirt_calls(hosts, host) == CALLED


def test_what_was_proved_is_told(host: Host, checkouts: Checkouts) -> None:
    said = install(host, checkouts)
    assert "judged at migrate begin" in said
    operations = ("restore", "prepare", "start", "started", "reconnect", "attach")
    assert f"let pass at {' begin, '.join(operations)} begin, stopped end, release end" in said
    left = {path for path in host.path("/run/vfio-preflight").rglob("*") if path.is_file()}
    assert {path.parent.name for path in left} <= {"turns"}, "locks alone"


# --- faults --------------------------------------------------------------------------------------

# Each is made in a mount namespace of its own, where the installation is then tried.
READ_ONLY = "mount --bind {0} {0} && mount -o remount,bind,ro {0}"
FULL = (
    "mkdir -p {0} && size=$(du -sk {0} | cut -f1) && mkdir /run/full &&"
    " mount -t tmpfs -o size=$((size + {1}))k full /run/full && cp -a {0}/. /run/full/ &&"
    " mount --move /run/full {0} && rmdir /run/full"
)
FILLED = f"{FULL} && {{{{ head -c 1m /dev/zero >{{0}}/filler 2>/dev/null; true; }}}}"
NO_LXML = "mount -t tmpfs none /usr/lib/python3/dist-packages/lxml"
STUB = (
    f"touch {REAL} && mount --bind /usr/bin/python3 {REAL} &&"
    " printf '%s\\n' '#!/bin/sh' '{0}' >/run/python3 && chmod 755 /run/python3 &&"
    " mount --bind /run/python3 /usr/bin/python3"
)
PYTHON_38 = STUB.format(
    f'exec {REAL} -I -S -c "import sys; sys.version_info = (3, 8, 10); exec(sys.argv[1])" "$4"'
)
FAULTS = {
    "read-only /usr": (READ_ONLY.format("/usr"), "/usr/lib/", "mounted read-only"),
    "read-only /etc": (READ_ONLY.format("/etc"), "/etc/", "mounted read-only"),
    "read-only /usr/bin": (READ_ONLY.format("/usr/bin"), "/usr/bin/", "mounted read-only"),
    "read-only /var": (READ_ONLY.format("/var"), "/var/", "mounted read-only"),
    "full /usr/lib": (FULL.format(LIBRARY, 600), LIBRARY, "make room there"),
    "fuller /usr/lib": (FILLED.format(LIBRARY, 8), LIBRARY, "No space left on device; make room"),
    "full /etc": (FILLED.format("/etc/libvirt", 4), "/etc/libvirt", "No space left on device"),
    "no lxml": (NO_LXML, "/usr/bin/python3", "cannot load lxml"),
    "python 3.8": (PYTHON_38, "/usr/bin/python3", "is Python 3.8.10; the hook runs on it"),
    "stub of 3.8": (STUB.format("echo Python 3.8.10"), "/usr/bin/python3", "is Python 3.8.10"),
    "no python": (STUB.format("exit 127"), "/usr/bin/python3", "does not answer"),
    "noexec /etc": (
        "mount --bind /etc /etc && mount -o remount,bind,noexec /etc",
        HOOK,
        "cannot be executed: Permission denied",
    ),
}  # fmt: skip
# An upgrade has nothing to write there.
HARMLESS = {("read-only /var", "old"), ("full /etc", "old")}
DIGESTS = (
    f"{{ find {' '.join(PLACES)} /var/lib/vfio-preflight -printf '%p %y %m %l\\n';"
    f" find {' '.join(PLACES)} -type f -exec sha256sum {{}} +; }} 2>/dev/null | sort"
)


def install_with(fault: str, host: Host, command: list[str]) -> tuple[int, str, str, str]:
    """Status and errors of an installation, and what is there before and after it."""
    script = (
        f"{fault} || exit 99; {DIGESTS} >/run/before; "
        f'"$@" >/run/out 2>/run/err; echo $? >/run/status; {DIGESTS} >/run/after'
    )
    done = host.run(["unshare", "--mount", "/bin/sh", "-c", script, "sh", *command])
    assert done.returncode == 0, done.stderr
    status, errors, before, after = (
        host.path(f"/run/{name}").read_text() for name in ("status", "err", "before", "after")
    )
    return int(status), errors, before, after


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("installed", ["", "old"])
def test_fault_leaves_what_was_there(
    fault: str, installed: str, host: Host, hosts: Lab, checkouts: Checkouts
) -> None:
    if installed:
        install(host, checkouts, installed)
        host.reload()
    script, place, reason = FAULTS[fault]
    # Somebody else's Python may well be as it should be.
    python = REAL if REAL in script else "/usr/bin/python3"
    command = checkouts.command("new", python=python)
    status, err, before, after = install_with(script, host, command)
    if (fault, installed) in HARMLESS:
        assert (status, err, in_force(host)) == (0, "", "new")
        return
    assert (status, err.count("\n")) == (2, 1), err
    assert err.startswith("vfio-preflight: ") and place in err and reason in err, err
    assert after == before
    assert bool(before.count(HOOK)) == bool(installed)
    # Without the fault libvirt goes on as before, and the next installation is as any.
    assert libvirt_calls(hosts, host) == (CALLED if installed else "")
    if not installed:
        install(host, checkouts)


@pytest.mark.parametrize("fault", ["read-only /usr", "read-only /etc", "read-only /usr/bin"])
def test_fault_of_a_removal(fault: str, host: Host, checkouts: Checkouts) -> None:
    install(host, checkouts)
    script, _place, _reason = FAULTS[fault]
    command = checkouts.command("new", "uninstall")
    status, err, before, after = install_with(script, host, command)
    assert (status, err.count("\n")) == (2, 1)
    assert "mounted read-only" in err and "nothing was removed" in err
    assert after == before


@pytest.mark.parametrize("words", [["check", "g1"], ["record", "g1"], ["watch"], ["state", "x"]])
def test_command_without_lxml(words: list[str], host: Host, checkouts: Checkouts) -> None:
    install(host, checkouts)
    status, err, _, _ = install_with(NO_LXML, host, ["vfio-preflight", *words])
    assert (status, err.count("\n")) == (2, 1)
    assert "cannot load lxml" in err and "install python3-lxml" in err


def test_command_without_libvirt_python(host: Host, checkouts: Checkouts) -> None:
    install(host, checkouts)
    hidden = "mount --bind /run/empty /usr/lib/python3/dist-packages/libvirt.py"
    make = "echo 'raise ImportError(\"none\")' >/run/empty"
    for words in (["check", "g1", "--to", "qemu:///system"], ["record", "g1"]):
        status, err, _, _ = install_with(f"{make} && {hidden}", host, ["vfio-preflight", *words])
        assert (status, err.count("\n")) == (2, 1), err
        assert "needs libvirt-python" in err


def test_command_under_an_older_python(host: Host, checkouts: Checkouts) -> None:
    install(host, checkouts)
    host.path("/run/older.py").write_text(
        "import runpy, sys\n"
        "sys.version_info = (3, 8, 10)\n"
        "sys.executable = '/usr/bin/python3'\n"
        "runpy.run_path(sys.argv[1], run_name='__main__')\n"
    )
    stub = STUB.format(f'exec {REAL} -I /run/older.py "$2"')
    status, err, _, _ = install_with(stub, host, ["vfio-preflight", "state", "x"])
    assert (status, err) == (
        2,
        "vfio-preflight: /usr/bin/python3 is Python 3.8; this needs 3.9 or newer\n",
    )


# --- killed --------------------------------------------------------------------------------------


def in_force(host: Host) -> str:
    """The version that libvirt would run: all of it old or all of it new; or none."""
    hook = host.path(HOOK)
    if not hook.exists():
        return ""
    assert hook.read_text() == ENTRY and os.access(hook, os.X_OK)
    link = os.readlink(host.path(f"{LIBRARY}/current"))
    version = host.path(f"{LIBRARY}/{link}")
    assert f'"{LIBRARY}/{link}"' in (version / "hook").read_text()
    modules = {
        str(path.relative_to(version)): path.read_bytes()
        for path in (version / "vfio_preflight").rglob("*.py")
    }
    assert len(modules) > 100
    ends = {data.rpartition(b"# ")[2].decode().strip() for data in modules.values()}
    (name,) = ends
    return name


def digests(root: Path) -> dict[str, str]:
    """The modules below a directory."""
    paths = root.rglob("*.py")
    return {str(p.relative_to(root)): sha256(p.read_bytes()).hexdigest() for p in paths}


def leftovers(host: Host) -> list[str]:
    script = f"find {' '.join(PLACES)} /var/lib/vfio-preflight -name '.*' 2>/dev/null"
    return host.run(["/bin/sh", "-c", script]).stdout.split()


def hook_answers(host: Host) -> bool:
    """Whether it judges a guest, called as libvirt calls it."""
    from vfio_preflight.cli.installation import proof

    call = [HOOK, proof.STAND_IN_NAME, "migrate", "begin", "-"]
    done = host.run(call, stdin=proof.STAND_IN.replace("PART", "0"))
    return done.returncode == 1 and done.stderr.startswith("vfio-preflight-reply ")


class Killer:
    """Ends commands at random instants."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.rng = random.Random(SEED)
        self.hits = 0

    def span(self, command: list[str]) -> float:
        begun = time.monotonic()
        self.host.run(command).check_returncode()
        return time.monotonic() - begun

    def killed(self, command: list[str], span: float) -> bool:
        """Whether it was killed before its end."""
        # --foreground: it alone, as the kernel's OOM killer would, and its children run on; or
        # else with what it has started, and with timeout(1) itself.
        alone = self.rng.choice((["--foreground"], []))
        # What it leaves behind goes with the host.
        scratch = "/run/install-kills"
        self.host.path(scratch).mkdir(exist_ok=True)
        words = [
            "env",
            f"TMPDIR={scratch}",
            "timeout",
            *alone,
            "-s",
            "KILL",
            f"{self.rng.uniform(0.02, span):.4f}",
        ]
        status = self.host.run([*words, *command]).returncode
        assert status in (0, 137, -9), f"KILLS_SEED={SEED}: {status}"
        self.hits += status != 0
        return status != 0


def test_killed_at_random_instants(host: Host, hosts: Lab, checkouts: Checkouts) -> None:
    """libvirt has the old version or the new one, whole; and what is next cleans up."""
    killer = Killer(host)
    installing, removing = checkouts.command("new"), checkouts.command("new", "uninstall")
    span = killer.span(installing)
    removal = killer.span(removing)
    sources = {name: digests(path / "plugin") for name, path in checkouts.paths.items()}
    was, attempts = "", 0
    while killer.hits < KILLS:
        attempts += 1
        assert attempts < 20 * KILLS
        # Now and then all of it is taken away, and that is killed as well.
        if was and killer.rng.random() < 0.2:
            killer.killed(removing, removal)
            now = in_force(host)
            assert now in (was, ""), f"KILLS_SEED={SEED}"
        else:
            other = "old" if was == "new" else "new"
            killer.killed(checkouts.command(other), span)
            now = in_force(host)
            assert now in (was, other), f"KILLS_SEED={SEED}"
        if now:
            link = os.readlink(host.path(f"{LIBRARY}/current"))
            found = digests(host.path(f"{LIBRARY}/{link}"))
            assert found == sources[now], f"KILLS_SEED={SEED}"
            assert hook_answers(host), f"KILLS_SEED={SEED}"
        was = now
    # An older version again, as to roll back; then the newer one.
    for name in ("old", "new", "old"):
        install(host, checkouts, name)
        assert in_force(host) == name and hook_answers(host)
        assert leftovers(host) == []
    host.reload()
    assert libvirt_calls(hosts, host) == CALLED
    host.run(removing).check_returncode()
    listing = host.run(["/bin/sh", "-c", f"find {' '.join(PLACES)} 2>/dev/null"]).stdout
    assert not re.search(r"vfio.preflight", listing), listing
