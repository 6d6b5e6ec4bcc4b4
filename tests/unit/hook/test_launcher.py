"""The shell part of the hook: whom it calls Python for, and what it makes of Python's end."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from unit.patience import appears

HOOK = Path(__file__).parents[3] / "hooks" / "vfio-preflight"
XML = b"<domain>\n<hostdev/>\n</domain>"
# Those of them that are here: distributions differ in what /bin/sh is.
SHELLS = [
    shell for shell in (["sh"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])
]


class Launcher:
    """The hook with an interpreter and a syslog of our own and a run-time directory of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shell = ["sh"]
        text = HOOK.read_text()
        for old, new in (
            ("/usr/bin/python3", f"{path}/python3"),
            ("/run/vfio-preflight", f"{path}/run"),
        ):
            assert old in text
            text = text.replace(old, new)
        (path / "hook").write_text(text)
        (path / "hook").chmod(0o755)
        (path / "bin").mkdir()
        self.program("bin/logger", f'printf "%s\\n" "$@" >{path}/part\nmv {path}/part {path}/log')

    def program(self, name: str, script: str) -> None:
        (self.path / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.path / name).chmod(0o755)

    def python(self, script: str) -> None:
        """What runs in place of Python."""
        self.program("python3", script)

    def wait(self, directory: str, name: str) -> None:
        (self.path / "run" / directory).mkdir(parents=True)
        (self.path / "run" / directory / name).touch()

    def run(
        self, operation: str, guest: str = "g1", xml: bytes = XML
    ) -> subprocess.CompletedProcess[bytes]:
        hook = str(self.path / "hook")
        return subprocess.run(
            [*self.shell, hook, guest, operation, "begin", "-"],
            input=xml,
            capture_output=True,
            env={"PATH": f"{self.path}/bin:{os.environ['PATH']}", "LC_ALL": "C"},
        )

    @property
    def said(self) -> str:
        """What was given to logger(1), which the hook does not wait for."""
        assert appears(self.path / "log"), "nothing was logged"
        return (self.path / "log").read_text()


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    return Launcher(tmp_path)


OPERATIONS = ("migrate", "restore", "prepare", "started")
# What a host has in place of Python in the middle of an upgrade, and what a Python ends with that
# finds no library, is killed, or runs out of memory.
BROKEN = {
    "exit 0": "",
    "exit 1": "",
    "exit 2": "",
    "echo '<domain/>'; exit 0": "",
    "echo '<dom'; kill -9 $$": "",
    "kill -11 $$": "",
    "exit 120": "",
    "exit 126": "there is no Python that can be run",
    "exit 127": "there is no Python that can be run",
    "printf 'no module'; exit 70": "no module",
}


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(
    ("end", "operation"),
    [*((end, "restore") for end in BROKEN), *(("exit 1", each) for each in OPERATIONS)],
)
def test_python_without_a_verdict_fails_nothing_and_is_told(
    end: str, operation: str, shell: list[str], launcher: Launcher
) -> None:
    """A restore that fails, or whose output is no XML, can cost a managed save."""
    launcher.shell = shell
    launcher.wait("refused", "g-g1")
    launcher.wait("second-gate", "g1.json")
    launcher.python(end)
    done = launcher.run(operation)
    assert (done.returncode, done.stdout) == (0, b"")
    reason = BROKEN[end] or "Python or this package did not come to its end"
    assert f"guest 'g1' at {operation} begin: nothing was checked, let pass: {reason}" in (
        launcher.said
    )


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(("end", "status"), [(98, 0), (99, 1)])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_only_a_verdict_fails_a_call(
    end: int, status: int, operation: str, shell: list[str], launcher: Launcher
) -> None:
    launcher.shell = shell
    launcher.wait("refused", "g-g1")
    launcher.wait("second-gate", "g1.json")
    launcher.python(f"echo why >&2; exit {end}")
    done = launcher.run(operation)
    assert done.returncode == (0 if operation == "restore" else status)
    assert done.stderr == b"why\n"
    assert not (launcher.path / "log").exists()


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize("operation", ["migrate", "restore"])
@pytest.mark.parametrize("lacking", ["interpreter", "directory", "truncated", "script", "empty"])
def test_without_a_whole_interpreter_nothing_is_checked(
    lacking: str, operation: str, shell: list[str], launcher: Launcher
) -> None:
    launcher.shell = shell
    launcher.wait("refused", "g-g1")
    launcher.wait("second-gate", "g1.json")
    place = launcher.path / "python3"
    if lacking == "directory":
        place.mkdir()
    elif lacking == "script":
        launcher.program("python3", "")
        place.write_text("#!/nonexistent/interpreter\n")
    elif lacking != "interpreter":
        whole = Path(os.path.realpath("/usr/bin/python3")).read_bytes()
        place.write_bytes(whole[: 4096 if lacking == "truncated" else 0])
        place.chmod(0o755)
    done = launcher.run(operation)
    assert (done.returncode, done.stdout) == (0, b"")
    assert f"at {operation} begin: nothing was checked, let pass" in launcher.said


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_cold_start_whose_devices_are_not_read_is_told(
    shell: list[str], launcher: Launcher
) -> None:
    launcher.shell = shell
    text = (launcher.path / "hook").read_text().replace("/dev/vfio/[0-9]*", "/dev/null")
    (launcher.path / "hook").write_text(text)
    launcher.python("exit 1")
    done = launcher.run("started")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert "guest 'g1' at started begin: nothing was checked, devices not read" in launcher.said


@pytest.mark.parametrize("shell", [s for s in SHELLS if s[0] != "bash"], ids=" ".join)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_shell_that_can_start_no_process_fails_nothing(
    operation: str, shell: list[str], launcher: Launcher
) -> None:
    """At a limit on processes; the shell's own error would be an exit status of 2.

    bash ends alike, after it has tried for 15 seconds.
    """
    launcher.path.chmod(0o755)
    for parent in list(launcher.path.parents)[:3]:
        parent.chmod(parent.stat().st_mode | 0o111)
    launcher.wait("refused", "g-g1")
    launcher.wait("second-gate", "g1.json")
    launcher.python("exit 99")
    # dash calls it -p, busybox -u.
    script = f"ulimit -p 0 2>/dev/null || ulimit -u 0; . {launcher.path}/hook"
    # The limit does not bind root.
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    launcher.shell = [*user, *shell, "-c", script]
    done = launcher.run(operation)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr


@pytest.mark.parametrize("guest", ["g\n1; $(id)`id`", "\u009b2J\u202eg", "x" * 5000, "-n '\""])
def test_no_name_gets_into_the_log_as_it_is(guest: str, launcher: Launcher) -> None:
    launcher.python("exit 1")
    assert launcher.run("migrate", guest).returncode == 0
    *options, line = launcher.said.splitlines()
    assert options == ["-t", "vfio-preflight", "-p", "daemon.err", "--"]
    assert line.isascii() and line.isprintable() and len(line) < 800


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_document_gets_out_as_it_is(shell: list[str], launcher: Launcher) -> None:
    launcher.shell = shell
    launcher.python("cat; exit 98")
    every = bytes(byte for byte in range(1, 256)) + "\u00e4\U0001f600\\n%s%d\\c".encode()
    xml = b"<domain>" + every * 3000 + b"</domain>"
    done = launcher.run("migrate", xml=xml)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == xml


@pytest.mark.parametrize("guest", ["g1", "-n", "a b", "new\nline", "\u00e4" * 100, "$(id)*"])
def test_python_gets_what_libvirt_gave(guest: str, launcher: Launcher) -> None:
    launcher.python('shift 4\nprintf "%s|" "$@"\ncat\nexit 98')
    done = launcher.run("migrate", guest)
    # The caller of the hook, whose open files show the image that is restored.
    expected = "|".join([str(os.getpid()), guest, "migrate", "begin", "-", ""])
    assert done.stdout == expected.encode() + XML


def test_syslog_that_does_not_read_is_not_waited_for(launcher: Launcher) -> None:
    """The logger still waits when libvirt has its answer."""
    fifo, log = launcher.path / "fifo", launcher.path / "log"
    os.mkfifo(fifo)
    launcher.program("bin/logger", f"echo >{launcher.path}/begun; read -r _ <{fifo}; echo >{log}")
    assert launcher.run("restore").returncode == 0
    assert appears(launcher.path / "begun") and not log.exists()
    fifo.write_text("\n")
    assert appears(log)
