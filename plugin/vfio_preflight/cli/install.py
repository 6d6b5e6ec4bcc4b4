"""``install`` and ``uninstall``: hook, package, command and configuration.

What libvirt runs must not hang on a virtual environment or a checkout (AppArmor confines libvirtd
to a few directories), so the package is copied to ``/usr/lib/vfio-preflight`` and runs on the
system's own Python. A manifest with digests says what is ours: a file that is not, or that was
changed since, is never overwritten and never removed.
"""

from __future__ import annotations

import compileall
import hashlib
import json
import os
import shutil
import sys
from argparse import Namespace, _SubParsersAction
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from .. import __version__
from ..errors import PreflightError
from ..qemu import shim

LIBRARY = "usr/lib/vfio-preflight"
MANIFEST = f"{LIBRARY}/manifest.json"
SHIM = f"{LIBRARY}/vfio_preflight/qemu/fakevfio.so"
COMMAND = "usr/bin/vfio-preflight"
HOOKS = "etc/libvirt/hooks"
HOOK = f"{HOOKS}/qemu.d/50-vfio-preflight"
# Where packages put units; what an operator puts into /etc/systemd/system goes before it.
UNIT = "usr/lib/systemd/system/vfio-preflight-watch.service"
WANTED = f"etc/systemd/system/multi-user.target.wants/{os.path.basename(UNIT)}"
CONFIGURATION = "etc/vfio-preflight.conf"
STATES = "var/lib/vfio-preflight/states"
DIRECTORIES = (("var/cache/vfio-preflight", 0o700), (STATES, 0o755))

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Where hooks/ and etc/ are: beside plugin/ in a checkout, below the prefix after pip.
DATA = (
    os.path.join(PACKAGE, "..", ".."),
    os.path.join(sys.prefix, "share", "vfio-preflight"),
    os.path.join(PACKAGE, "..", "share"),
)
LAUNCHER = """#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "/usr/lib/vfio-preflight")
from vfio_preflight.cli.main import main

sys.exit(main())
"""


class InstallError(PreflightError):
    """Files that cannot be put in place, or removed, without harm to others."""


class Payload(NamedTuple):
    """A file to install: where (relative to the root), what, with which mode."""

    path: str
    data: bytes
    mode: int = 0o644


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare both commands."""
    for name, run, text in (
        ("install", _install, "install the hook and the command on this host"),
        ("uninstall", _uninstall, "remove what install put there"),
    ):
        parser = commands.add_parser(name, help=text)
        parser.add_argument("--root", metavar="DIR", default="/", help="stage below DIR")
        parser.set_defaults(run=run)


def _install(options: Namespace) -> int:
    root = _root(options.root)
    payload = [*_payload()]
    ours = _manifest(root)
    first = not _has_hooks(root)
    _refuse_foreign(root, payload, ours)
    for item in payload:
        _write(root, item)
    fresh = {item.path: _digest(item.data) for item in payload}
    _remove_stale(root, ours, fresh)
    for path, mode in DIRECTORIES:
        os.makedirs(os.path.join(root, path), mode=mode, exist_ok=True)
    kept = _write_configuration(root)
    manifest = {"version": __version__, "files": fresh}
    _write(root, Payload(MANIFEST, json.dumps(manifest, indent=1).encode()))
    no_shim = _compile_shim(root)
    compileall.compile_dir(
        os.path.join(root, LIBRARY), quiet=2, stripdir=root, prependdir="/", force=True
    )
    _tell(root, kept, first, no_shim)
    return 0


def _compile_shim(root: str) -> str:
    """Compile the trial's made-up device for this host; what stands in the way, or nothing."""
    try:
        shim.build(os.path.join(root, SHIM))
    except shim.ShimError as error:
        return str(error)
    return ""


def _uninstall(options: Namespace) -> int:
    root = _root(options.root)
    ours = _manifest(root)
    if not ours:
        raise InstallError(f"nothing to remove: there is no {os.path.join(root, MANIFEST)}")
    for path, digest in ours.items():
        _remove(root, path, digest)
    for path in (MANIFEST, SHIM):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(root, path))
    _remove_compiled(os.path.join(root, LIBRARY))
    shutil.rmtree(os.path.join(root, DIRECTORIES[0][0]), ignore_errors=True)
    _remove_unchanged_configuration(root)
    for directory in (STATES, os.path.dirname(STATES), os.path.dirname(HOOK)):
        _remove_empty(os.path.join(root, directory))
    print("vfio-preflight is removed; libvirt needs no reload for that")
    if os.path.lexists(os.path.join(root, WANTED)):
        print(f"its service is still enabled: systemctl disable --now {os.path.basename(UNIT)}")
    return 0


def _root(root: str) -> str:
    if not os.path.isdir(root):
        raise InstallError(f"{root} is not a directory; create it first")
    if not os.access(root, os.W_OK):
        raise InstallError(f"{root} is not writable; run this as root")
    return os.path.abspath(root)


def _payload() -> Iterator[Payload]:
    hook = _data("hooks/vfio-preflight")
    yield Payload(HOOK, hook, 0o755)
    yield Payload(COMMAND, LAUNCHER.encode(), 0o755)
    yield Payload(UNIT, _data(f"etc/{os.path.basename(UNIT)}"))
    for directory, subdirectories, files in os.walk(PACKAGE):
        subdirectories[:] = sorted(name for name in subdirectories if name != "__pycache__")
        for name in sorted(files):
            path = os.path.join(directory, name)
            inside = os.path.relpath(path, os.path.dirname(PACKAGE))
            if name.endswith((".py", ".c", ".json")):
                with open(path, "rb") as file:
                    yield Payload(f"{LIBRARY}/{inside}", file.read())


def _data(name: str) -> bytes:
    for directory in DATA:
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return file.read()
    raise InstallError(f"{name} is not in this installation; install from a checkout or a wheel")


def _manifest(root: str) -> dict[str, str]:
    path = os.path.join(root, MANIFEST)
    try:
        with open(path, encoding="utf-8") as file:
            files = json.load(file)["files"]
            return {str(name): str(digest) for name, digest in files.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InstallError(
            f"{path}: cannot be read: {error}; move it away to start anew"
        ) from error


def _refuse_foreign(root: str, payload: list[Payload], ours: dict[str, str]) -> None:
    """Stop before the first write if a file stands in the way that is not ours as we left it."""
    for item in payload:
        digest = _digest_at(os.path.join(root, item.path))
        if digest is None or digest in (ours.get(item.path), _digest(item.data)):
            continue
        state = "was changed since it was installed" if item.path in ours else "is not ours"
        raise InstallError(
            f"{os.path.join(root, item.path)} {state}; move it away and run install again"
        )


def _remove_stale(root: str, old: dict[str, str], fresh: dict[str, str]) -> None:
    for path, digest in old.items():
        if path not in fresh:
            _remove(root, path, digest)


def _remove(root: str, path: str, digest: str) -> None:
    full = os.path.join(root, path)
    found = _digest_at(full)
    if found == digest:
        os.unlink(full)
    elif found is not None:
        print(f"left in place, changed since it was installed: {full}")


def _remove_compiled(library: str) -> None:
    """Remove what Python compiled, and every directory that is empty then."""
    for directory, _subdirectories, files in os.walk(library, topdown=False):
        for name in files if os.path.basename(directory) == "__pycache__" else ():
            os.unlink(os.path.join(directory, name))
        _remove_empty(directory)


def _remove_empty(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:
        # Somebody else's files are in it, or it never was.
        return


def _write(root: str, item: Payload) -> None:
    """Write beside the target and rename: libvirt may run the hook at any moment."""
    path = os.path.join(root, item.path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # A dot file, because libvirt runs whatever else is executable in qemu.d; and it runs hidden
    # files too, so the mode comes last.
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}")
    try:
        with open(temporary, "wb", opener=_create) as file:
            file.write(item.data)
        os.rename(temporary, path)
        os.chmod(path, item.mode)
    except OSError as error:
        raise InstallError(f"{path}: cannot be written: {error.strerror}") from error


def _create(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write_configuration(root: str) -> bool:
    """Install the configuration where there is none; an operator's is never touched."""
    if os.path.lexists(os.path.join(root, CONFIGURATION)):
        return True
    _write(root, Payload(CONFIGURATION, _data("etc/vfio-preflight.conf")))
    return False


def _remove_unchanged_configuration(root: str) -> None:
    path = os.path.join(root, CONFIGURATION)
    try:
        shipped = _digest(_data("etc/vfio-preflight.conf"))
    except InstallError:
        shipped = ""
    if _digest_at(path) == shipped:
        os.unlink(path)
    elif os.path.lexists(path):
        print(f"left in place, yours: {path}")


def _has_hooks(root: str) -> bool:
    """Whether libvirt found a qemu hook when its daemon started, as far as files can tell."""
    directory = os.path.join(root, HOOKS, "qemu.d")
    others = os.listdir(directory) if os.path.isdir(directory) else []
    return bool(others) or os.path.exists(os.path.join(root, HOOKS, "qemu"))


def _tell(root: str, kept: bool, first: bool, no_shim: str) -> None:
    print(f"installed: {os.path.join(root, HOOK)}")
    print(f"           {os.path.join(root, COMMAND)}")
    print(f"           {os.path.join(root, LIBRARY)}")
    print(f"           {os.path.join(root, UNIT)}")
    print(f"{'kept:     ' if kept else 'installed:'} {os.path.join(root, CONFIGURATION)}")
    if first:
        print(
            "This is this host's first qemu hook, and libvirt looks for hooks when it starts. Run\n"
            "  systemctl reload libvirtd    (or virtqemud)"
        )
    else:
        print("libvirt had a qemu hook before: no reload needed")
    if no_shim:
        print(f"without trials: {no_shim}")
    print(
        "To record what guests' devices present as they start, run\n"
        f"  systemctl daemon-reload && systemctl enable --now {os.path.basename(UNIT)}"
    )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest_at(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return _digest(file.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InstallError(f"{path}: cannot be read: {error.strerror}") from error
