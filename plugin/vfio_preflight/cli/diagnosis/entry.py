"""What libvirt runs: our file among its hooks, and whether the daemon has looked since."""

from __future__ import annotations

import calendar
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress

from ...osutil import jsondir
from ..installation import labels, proof, reload
from ..installation.files import digest, is_as_shipped
from ..installation.launcher import quoted
from ..installation.payload import COMMAND, CONFIGURATION, ENTRY, HOOK, LIBRARY, InstallError
from .finding import Fact, Found, Shell, UnseenError, found
from .here import Here, answer, aside, configured, opened, way_to
from .private import privately

# What is known of a daemon once: it looks at every call from then on.
LOOKED = "run/vfio-preflight/daemons"
SYSTEMCTL = "/usr/bin/systemctl"
# systemctl(1) show; the last two in microseconds of CLOCK_MONOTONIC.
_EXEC, _STATE, _ACTIVE = (
    "ExecReload", "StateChangeTimestampMonotonic", "ActiveEnterTimestampMonotonic",
)  # fmt: skip
_START = r"start_time=\[(?:\w+ )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC\]"
# What a made-up guest may take of the hook's deadline: a real one takes several times as long.
SHARE = 0.5


def file(here: Here) -> Iterator[Found | Fact]:
    """Whether the hook's file is there, as installed, executable, and root's alone."""
    path = here.path(HOOK)
    wrong = way_to(os.path.dirname(path))
    if wrong:
        yield found("directory-none", path=wrong, aside=aside(wrong))
        return
    if not os.path.lexists(path):
        yield found("hook-missing", path=path, reinstall=here.reinstall)
        return
    # Debian's package makes it on the host, so that it is not in the manifest.
    shipped = here.files.get(HOOK) or digest(ENTRY.encode())
    if not os.path.isfile(path) or not is_as_shipped(path, {shipped}):
        yield found("hook-changed", path=path, reinstall=here.reinstall)
        return
    mode = os.stat(path).st_mode
    # virFileIsExecutable(); root may execute what anybody may.
    if not mode & 0o111:
        yield found("hook-not-executable", path=path, mode=f"{mode & 0o7777:04o}")
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        point, options = _mount_of(path)
        yield found("hook-noexec", path=path, mount=point, options=options)
    problem = opened(path)
    if problem:
        yield found("hook-open", path=problem[0], why=problem[1])


def _mount_of(path: str) -> tuple[str, str]:
    """Where the file system is mounted that a file lies on, and its options with exec.

    Source: Linux, ``Documentation/filesystems/proc.rst``, "/proc/<pid>/mountinfo".
    """
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        fields = [line.split(" ") for line in lines]
    points = {re.sub(r"\\([0-7]{3})", _octal, field[4]): field[5] for field in fields}
    real = os.path.realpath(path)
    fitting = [point for point in points if real.startswith(os.path.join(point, ""))]
    place = max(fitting, key=len, default="/")
    options = points.get(place, "").split(",")
    return place, ",".join("exec" if name == "noexec" else name for name in options)


def _octal(match: re.Match[str]) -> str:
    return chr(int(match[1], 8))


def label(here: Here) -> Iterator[Found | Fact]:
    """Whether the labels are the policy's, on a host with SELinux."""
    paths = tuple(here.path(name) for name in (HOOK, LIBRARY, COMMAND, CONFIGURATION))
    said, problem = labels.wrong(paths)
    if problem:
        raise UnseenError(f"SELinux labels: {problem}")
    if said:
        yield found("label-wrong", why=said, paths=Shell(" ".join(map(quoted, paths))))


def reloaded(here: Here) -> Iterator[Found | Fact]:
    """Whether each daemon has looked for hooks since this host has one."""
    hooks = reload.hooks(here.root)
    daemons = list(reload.daemons(here.root))
    yield Fact("daemons", [daemon._asdict() for daemon in daemons])
    if not hooks:
        return
    # With several, one that was there at the start is enough: libvirt then looks at every call.
    since = min(hook.since for hook in hooks)
    for daemon in daemons:
        unit = _unit(here, daemon.pid)
        if jsondir.load(here.path(LOOKED), daemon.instance) is not None:
            continue
        if since + reload.MARGIN < daemon.started or _reloaded(here, daemon, unit) >= since:
            # Of a hook that is replaced, as an upgrade does, only the new time is left.
            jsondir.store(here.path(LOOKED), daemon.instance, daemon._asdict())
            continue
        yield found(
            "reload-pending",
            daemon=daemon.name,
            pid=str(daemon.pid),
            started=_shown(daemon.started),
            since=_shown(since),
            reload=Shell(_reload(here, daemon, unit)),
        )


def _shown(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _unit(here: Here, pid: int) -> str:
    """The unit of systemd that a daemon runs in, empty for none."""
    if not os.path.isdir(here.path("run/systemd/system")):
        return ""
    try:
        with open(here.path(f"proc/{pid}/cgroup"), encoding="utf-8", errors="replace") as lines:
            found = re.search(r"/((?:libvirtd|virtqemud)\.service)\s*$", lines.read(), re.MULTILINE)
    except OSError:
        return ""
    return found[1] if found else ""


def _reloaded(here: Here, daemon: reload.Daemon, unit: str) -> float:
    """When the daemon was reloaded last, as far as is known (Unix time); else 0."""
    moments = [0.0]
    # It is there if somebody has run the command.
    with suppress(OSError):
        moments.append(os.stat(_marker(here, daemon)).st_mtime)
    if unit:
        said = answer(SYSTEMCTL, "show", "-p", ",".join((_EXEC, _STATE, _ACTIVE)), unit).stdout
        # To the second: one within that of the hook's own time does not count.
        moments += [_utc(text) for text in re.findall(_START, said)]
        moments.append(_changed(said))
    # systemd keeps the time of a reload beyond a restart.
    return max((moment for moment in moments if moment > daemon.started), default=0.0)


def _changed(said: str) -> float:
    """When a unit's state changed since it was started, which a reload does: 0 if it did not.

    Unlike the times of its commands, this is kept in a daemon-reload (systemd, ``unit_notify``).
    """
    found = dict(re.findall(r"(?m)^(\w+)=(\d+)$", said))
    state, active = (int(found.get(name, 0)) for name in (_STATE, _ACTIVE))
    if not active or state <= active:
        return 0.0
    return time.time() - (time.clock_gettime(time.CLOCK_MONOTONIC) - state / 1e6)


def _utc(text: str) -> float:
    return float(calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M:%S")))


def _marker(here: Here, daemon: reload.Daemon) -> str:
    return here.path(reload.RELOADED.format(daemon.instance))


def _reload(here: Here, daemon: reload.Daemon, unit: str) -> str:
    if unit:
        return f"systemctl reload {unit}"
    marker = _marker(here, daemon)
    made = f"mkdir -p {quoted(os.path.dirname(marker))} && touch {quoted(marker)}"
    return f"kill -HUP {daemon.pid} && {made}"


def called(here: Here) -> Iterator[Found | Fact]:
    """Whether the hook judges a made-up guest, called as libvirt does, and how fast."""
    begun = time.monotonic()

    def work() -> list[tuple[str, float]] | str:
        try:
            return [(each.call, each.seconds) for each in proof.prove(here.root)]
        except InstallError as error:
            return str(error)

    runtime = here.path(here.settings.runtime)
    os.makedirs(runtime, mode=0o700, exist_ok=True)
    # Not behind the hooks of real guests, who may be many, nor with anything left for one.
    proved = privately([runtime], work)
    if isinstance(proved, str):
        if "deadline" in proved:
            yield _slow(here, time.monotonic() - begun)
        else:
            yield found("hook-silent", why=proved, reinstall=here.reinstall)
        return
    yield Fact("latency", {call: round(seconds, 4) for call, seconds in proved})
    slowest = max(seconds for _call, seconds in proved)
    if slowest > here.settings.deadline * SHARE:
        yield _slow(here, slowest)


def _slow(here: Here, seconds: float) -> Found:
    # As much above what was measured as the usual deadline is above the usual time.
    wanted = min(600, max(10, round(seconds * 10)))
    return found(
        "hook-slow",
        seconds=f"{seconds:.2f}",
        deadline=f"{here.settings.deadline:g}",
        path=here.path(CONFIGURATION),
        edit=configured(here, "deadline", str(wanted)),
    )
