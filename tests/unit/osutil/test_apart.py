"""What reads foreign bytes has no privilege, and whatever happens to it is an error."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vfio_preflight.errors import PreflightError
from vfio_preflight.osutil import apart as module
from vfio_preflight.osutil.apart import apart
from vfio_preflight.osutil.executable import unprivileged_user

PATIENCE = 30.0


class OddError(PreflightError):
    """What the caller asked for."""


def work(function: Callable[[], object], seconds: float = PATIENCE) -> object:
    return apart(function, time.monotonic() + seconds, OddError)


def test_value_comes_back() -> None:
    assert work(lambda: {"a": [1, None, "x" * 200_000]}) == {"a": [1, None, "x" * 200_000]}


def test_own_error_comes_back() -> None:
    def fail() -> None:
        raise PreflightError("the image is damaged")

    with pytest.raises(OddError, match=r"^the image is damaged$"):
        work(fail)


@pytest.mark.parametrize(
    "end",
    [
        lambda: os.kill(os.getpid(), signal.SIGSEGV),
        lambda: os._exit(0),
        lambda: 1 // 0,
        lambda: object(),
    ],
    ids=["crash", "exit", "bug", "no JSON"],
)
def test_end_without_an_answer(end: Callable[[], object]) -> None:
    with pytest.raises(OddError, match="ended before it had an answer"):
        work(end)


def test_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 0.1)
    with pytest.raises(OddError, match="took too long"):
        work(lambda: time.sleep(PATIENCE), 0.1)


def test_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER", 1000)
    with pytest.raises(OddError):
        work(lambda: "x" * 200_000)


def test_no_core_file() -> None:
    assert work(lambda: resource.getrlimit(resource.RLIMIT_CORE)) == [0, 0]


def test_nothing_is_left_of_it() -> None:
    before = os.listdir("/proc/self/fd")
    pid = work(os.getpid)
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(int(str(pid)), os.WNOHANG)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privilege to give up")
def test_privilege_is_given_up(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    user = unprivileged_user()
    assert user is not None

    def look() -> dict[str, object]:
        tried = []
        for name, attempt in (
            ("read", lambda: secret.read_text()),
            ("write", lambda: (tmp_path / "new").write_text("x")),
            ("signal", lambda: os.kill(os.getppid(), 0)),
            ("return", lambda: os.setuid(0)),
        ):
            try:
                attempt()
                tried.append(name)
            except PermissionError:
                continue
        status = Path("/proc/self/status").read_text()
        capabilities = [line for line in status.splitlines() if line.startswith("CapEff")]
        return {"ids": [*os.getresuid(), *os.getresgid()], "groups": os.getgroups(),
                "did": tried, "capabilities": capabilities}  # fmt: skip

    assert work(look) == {
        "ids": [user.uid] * 3 + [user.gid] * 3,
        "groups": [],
        "did": [],
        "capabilities": ["CapEff:\t0000000000000000"],
    }
