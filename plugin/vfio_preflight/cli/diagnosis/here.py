"""This host as the looks see it, and what several of them ask of it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping

from ...configuration import Configuration, ConfigurationError, parse
from ...osutil.light import NamedTuple
from ...osutil.regular import read_regular, whose
from ..installation import launcher
from ..installation.interpreter import PYTHON
from ..installation.payload import CONFIGURATION
from .finding import Shell, UnseenError
from .lines import edited, setting

ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
# How a package is installed, or once more where it is there: by the program that does it.
INSTALLERS = (
    ("usr/bin/apt-get", "apt-get install -y --reinstall {}"),
    ("usr/bin/dnf", "dnf install -y {0} && dnf reinstall -y {0}"),
    ("usr/bin/zypper", "zypper --non-interactive install --force {}"),
)
# Which package a file is of: program and arguments, and the package in what it says.
OWNERS = (
    (("usr/bin/dpkg-query", "-S"), r"(?m)^([a-z0-9][a-z0-9.+-]*)(?::[a-z0-9]+)?(?:, .*)?: "),
    (("usr/bin/rpm", "-qf", "--qf", "%{NAME}\n"), r"(?m)^([A-Za-z0-9][A-Za-z0-9._+-]*)$"),
)
SECONDS = 20


class Here(NamedTuple):
    """The host: its ``settings``, its ``root`` (another one in tests), where the package lies
    (relative to that), and the package's manifest, empty where there is none."""

    settings: Configuration
    root: str = "/"
    place: str = launcher.LIBRARY
    manifest: Mapping[str, object] = {}

    def path(self, *parts: str) -> str:
        """A path below the root."""
        return os.path.join(self.root, *(part.lstrip("/") for part in parts))

    @property
    def files(self) -> Mapping[str, str]:
        """What was installed: digests by path, relative to the root."""
        found = self.manifest.get("files")
        return found if isinstance(found, dict) else {}

    @property
    def reinstall(self) -> Shell:
        """The command that installs the package once more."""
        return Shell(launcher.reinstall(self.root, dict(self.manifest)))


def answer(*command: str, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    """What a program of the system says. Raises UnseenError."""
    try:
        return subprocess.run(  # noqa: S603 - constant paths
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            cwd="/",
            env=ENVIRONMENT,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UnseenError(f"{command[0]} cannot be run: {error}") from error


def python(program: str, *arguments: str, site: bool = True) -> subprocess.CompletedProcess[str]:
    """What the Python that the hook runs on says; ``site`` is whether it has site directories."""
    return answer(PYTHON, "-I", *([] if site else ["-S"]), "-c", program, *arguments)


def install(here: Here, *packages: str) -> Shell:
    """The command that installs packages, by the host's package manager."""
    for program, command in INSTALLERS:
        if os.access(here.path(program), os.X_OK):
            return Shell(command.format(" ".join(packages)))
    return Shell(f"# install with this system's package manager: {' '.join(packages)}")


def package_of(here: Here, path: str) -> str:
    """The package that a file is of, empty where no package manager knows."""
    for (program, *arguments), pattern in OWNERS:
        if os.access(here.path(program), os.X_OK):
            found = re.search(pattern, answer(here.path(program), *arguments, path).stdout)
            if found:
                return found[1]
    return ""


def opened(path: str) -> tuple[str, str] | None:
    """What on the way to ``path`` others than root can change, and why; None if nothing.

    Raises OSError.
    """
    problem = whose(path)
    found = re.fullmatch(r"(?s)(.*) (belongs to user \d+|is writable by .*)", problem)
    return (found[1], found[2]) if found else None


def configured(here: Here, key: str, value: str) -> Shell:
    """The command that sets ``key`` of the configuration's section [hook] to ``value``.

    Raises UnseenError for a value that is more than words (a driver may have any text in sysfs),
    and where the configuration would not be valid with it.
    """
    if not re.fullmatch(r"[\w .,:*+-]+", value, re.ASCII):
        raise UnseenError(f"{key} cannot be set to {value!a}")
    path = here.path(CONFIGURATION)
    try:
        text = read_regular(path).decode("utf-8-sig")
    except FileNotFoundError:
        text = ""
    # One that is there is never written anew.
    except (OSError, UnicodeDecodeError) as error:
        raise UnseenError(f"{key} cannot be set: {path} cannot be read: {error}") from error
    try:
        parse(edited(text, "hook", key, value), path)
    except ConfigurationError as error:
        raise UnseenError(f"{key} cannot be set to {value}: {error}") from error
    scripts = " ".join(f"-e {launcher.quoted(each)}" for each in setting(text, "hook", key, value))
    if scripts:
        return Shell(f"sed -i {scripts} {launcher.quoted(path)}")
    return Shell(f"printf '[hook]\\n{key} = {value}\\n' >{launcher.quoted(path)}")


def way_to(path: str) -> str:
    """What is no directory on the way to the directory ``path``, or at its end; empty for none."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return "" if os.path.isdir(path) else path


def aside(path: str) -> str:
    """A name that nothing has yet, for a file that is in the way."""
    number = 0
    while os.path.lexists(name := f"{path}.aside{number or ''}"):
        number += 1
    return name
