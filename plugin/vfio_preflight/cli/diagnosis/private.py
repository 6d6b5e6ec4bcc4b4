"""Work in a mount namespace of its own, where what a hook keeps is kept nowhere.

The hook is called there with the host's configuration, devices and emulators; but what it would
leave for a real guest or read of one (state files, catalogue, history, /run) lies on file systems
that are gone with the process. Nothing of it is to be seen outside, also if everything is killed.

Source: unshare(2), mount_namespaces(7).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable

from ...osutil.light import TYPE_CHECKING
from .finding import UnseenError

if TYPE_CHECKING:
    from typing import Any, NoReturn

_CLONE_NEWNS = 0x00020000
_TMPFS = ("/usr/bin/mount", "-t", "tmpfs", "-o", "mode=0755,size=16m", "vfio-preflight")


def privately(directories: Iterable[str], work: Callable[[], Any]) -> Any:  # noqa: ANN401 - JSON
    """What ``work`` returns, a value for JSON, where each of ``directories`` is a new, empty one.

    Raises UnseenError where that cannot be made, or ``work`` fails.
    """
    theirs, ours = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(theirs)
        _child(ours, list(directories), work)
    os.close(ours)
    with open(theirs, "rb") as answers:
        answer = answers.read()
    os.waitpid(child, 0)
    try:
        value = json.loads(answer)
    except ValueError as error:
        raise UnseenError("what calls the hook was ended from outside") from error
    if "problem" in value:
        raise UnseenError(f"the hook cannot be called apart from real guests: {value['problem']}")
    return value["result"]


def _child(answer: int, directories: list[str], work: Callable[[], Any]) -> NoReturn:
    try:
        try:
            _leave()
            _empty(directories)
            value = {"result": work()}
        except Exception as error:
            value = {"problem": f"{type(error).__name__}: {error}"}
        with open(answer, "wb") as file:
            file.write(json.dumps(value).encode())
    finally:
        os._exit(0)


def _leave() -> None:
    """Into a mount namespace from which nothing gets out. Raises OSError."""
    # os.unshare() came with Python 3.12.
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(_CLONE_NEWNS):
        code = ctypes.get_errno()
        raise OSError(code, f"no mount namespace: {os.strerror(code)}")
    _run("/usr/bin/mount", "--make-rprivate", "/")


def _empty(directories: list[str]) -> None:
    """Put empty directories in their places, or in those of the nearest that are there."""
    places = {_nearest(directory) for directory in directories}
    for place in sorted(places):
        if not any(place.startswith(os.path.join(other, "")) for other in places):
            _run(*_TMPFS, place)
    for directory in directories:
        os.makedirs(directory, mode=0o755, exist_ok=True)


def _nearest(directory: str) -> str:
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    return directory


def _run(*command: str) -> None:
    done = subprocess.run(  # noqa: S603 - constant paths
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode:
        raise OSError(done.stderr.decode("utf-8", "replace").strip())
