"""The package: whole, compiled, and on a Python that can run it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ...osutil.regular import read_regular
from ..installation import interpreter, launcher
from ..installation.files import digest_at
from ..installation.payload import COMMAND, HOOK, HOOK_NAME, InstallError
from .finding import Fact, Found, Shell, UnseenError, found
from .here import Here, install, python

# In the interpreter of the hook. A compiled file is taken by its magic number and its source's time
# and size (importlib, "Cached bytecode invalidation"); what follows may be damaged all the same,
# and then it cannot be loaded. One that crashes the interpreter is named by its being the last.
COMPILED = """
import importlib.util, marshal, os, sys
for directory, below, names in os.walk(sys.argv[1]):
    for name in names:
        if not name.endswith(".py"):
            continue
        source = os.path.join(directory, name)
        path = importlib.util.cache_from_source(source)
        print(source)
        sys.stdout.flush()
        try:
            with open(path, "rb") as file:
                data = file.read()
            info = os.stat(source)
            flags = int.from_bytes(data[4:8], "little")
            stamp = b"".join(
                (int(number) & 0xFFFFFFFF).to_bytes(4, "little")
                for number in (info.st_mtime, info.st_size)
            )
            fresh = data[:4] == importlib.util.MAGIC_NUMBER and (flags or data[8:16] == stamp)
            if fresh and hasattr(marshal.loads(data[16:]), "co_code"):
                print("ok")
        except Exception:
            pass
"""


def whole(here: Here) -> Iterator[Found | Fact]:
    """Whether every file of the package is as it was installed, and nothing else is there."""
    manifest = dict(here.manifest)
    paths = launcher.damaged(here.root, manifest)
    if not manifest and not paths:
        raise UnseenError(f"nothing is installed in {here.path(launcher.LIBRARY)}")
    if paths:
        repair = Shell(launcher.repair(here.root, manifest, paths))
        yield found("package-broken", files=tuple(paths), repair=repair)
    for path, digest in here.files.items():
        inside = path.startswith(f"{launcher.LIBRARY}/") or path == HOOK
        if not inside and digest_at(here.path(path)) != digest:
            wrong = here.path(path)
            repair = Shell(launcher.repair(here.root, manifest, [wrong]))
            yield found("file-changed", path=wrong, repair=repair)
    strays = launcher.stray(here.root, here.place, manifest)
    if strays:
        yield found("package-stray", files=tuple(strays))
    yield Fact("package", {"version": manifest.get("version", ""), "place": here.path(here.place)})


def compiled(here: Here) -> Iterator[Found | Fact]:
    """Whether each module has a compiled form that the hook's Python takes."""
    place = here.path(here.place, "vfio_preflight")
    done = python(COMPILED, place, site=False)
    lines = done.stdout.splitlines()
    bad = [line for line, then in zip(lines, [*lines[1:], ""]) if line != "ok" and then != "ok"]
    if done.returncode and not bad:
        raise UnseenError(f"{interpreter.PYTHON} cannot look at compiled modules: {done.stderr}")
    if bad:
        yield found(
            "package-not-compiled",
            count=str(len(bad)),
            python=Shell(interpreter.PYTHON),
            directory=place,
        )


def command(here: Here) -> Iterator[Found | Fact]:
    """Whether the command can be run; ``python3 -I`` runs it also where it cannot."""
    path = here.path(COMMAND)
    mode = os.stat(path).st_mode if os.path.exists(path) else 0o755
    if not mode & 0o111:
        yield found("command-not-executable", path=path, mode=f"{mode & 0o7777:04o}")


def runs(here: Here) -> Iterator[Found | Fact]:
    """Whether the interpreter can run the hook."""
    names = (os.path.join(here.place, HOOK_NAME), HOOK)
    hook = next((here.path(name) for name in names if os.path.isfile(here.path(name))), "")
    text = read_regular(hook) if hook else b""
    # Of one that is not there or damaged others tell.
    if not interpreter.PATHS.search(text.decode("utf-8", "replace")):
        return
    try:
        interpreter.require(text)
    except InstallError as error:
        yield found("python-unfit", why=str(error), install=_python(here))


def libvirt(here: Here) -> Iterator[Found | Fact]:
    """Whether the interpreter has the module that ``watch`` and ``check --to`` need."""
    if python("import libvirt").returncode:
        wanted = install(here, "python3-libvirt")
        yield found("python-without-libvirt", python=Shell(interpreter.PYTHON), install=wanted)


def _python(here: Here) -> Shell:
    return install(here, "python3", "python3-lxml")
