"""Whether the interpreter that the hook runs on can run it: asked of itself, as the hook calls it.

Neither the Python that runs ``install`` nor the one on somebody's PATH says anything about
``/usr/bin/python3 -I -S`` with the few directories that the hook looks in.
"""

from __future__ import annotations

import os
import re
import subprocess

from ...osutil.text import printable
from .payload import InstallError

PYTHON = "/usr/bin/python3"
OLDEST = (3, 9)
SECONDS = 60
# The hook's own lines that say where it imports from.
PATHS = re.compile(r"^ *(sys\.path\.(?:append|insert)\(.*\))$", re.MULTILINE)
# Any Python 3 must get as far as its number.
QUESTION = """
import sys
print("%d.%d.%d" % sys.version_info[:3])
sys.stdout.flush()
PATHS
try:
    import lxml.etree
except Exception:
    print("no lxml: %s" % sys.exc_info()[1])
else:
    print("lxml")
"""
REMEDY = "install python3-lxml from the distribution"


def require(hook: bytes) -> None:
    """Raise InstallError unless this host's interpreter can run ``hook``."""
    if not os.access(PYTHON, os.X_OK):
        raise InstallError(
            f"{PYTHON} is not there, or not executable; install the distribution's python3"
        )
    paths = "\n".join(PATHS.findall(hook.decode()))
    answer = _ask(QUESTION.replace("PATHS", paths))
    number, _, rest = answer.partition("\n")
    # A wrapper may say it in other words: "Python 3.8.10".
    found = re.fullmatch(r"(?:Python )?((\d+)\.(\d+)(?:\.\d+)?)\S*", number.strip())
    if not found:
        raise InstallError(
            f"{PYTHON} does not answer as a Python does: '{printable(answer.strip(), 200)}';"
            " reinstall the distribution's python3"
        )
    if (int(found[2]), int(found[3])) < OLDEST:
        raise InstallError(
            f"{PYTHON} is Python {found[1]}; the hook runs on it, and needs"
            f" {'.'.join(map(str, OLDEST))} or newer"
        )
    if rest.strip() != "lxml":
        why = printable(rest.strip().removeprefix("no lxml: ") or "no answer", 200)
        raise InstallError(f"{PYTHON}, which the hook runs on, cannot load lxml ({why}); {REMEDY}")


def _ask(question: str) -> str:
    command = (PYTHON, "-I", "-S", "-c", question)
    try:
        done = subprocess.run(  # noqa: S603 - a constant path
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            cwd="/",
            env={"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise InstallError(f"{PYTHON} cannot be run: {error}") from error
    # What went wrong stands in the last line of a traceback.
    errors = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return done.stdout.decode("utf-8", "replace") or errors or f"exit status {done.returncode}"
