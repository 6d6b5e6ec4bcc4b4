"""``install`` and ``uninstall``: hook, package, command and configuration.

What libvirt runs must not depend on a virtual environment or a checkout (AppArmor confines libvirtd
to a few directories), so the package is copied to ``/usr/lib/vfio-preflight`` and runs on the
system's own Python. A manifest with digests says what is ours: a file that is not, or that was
changed since, is never overwritten and never removed.
"""

from __future__ import annotations

import compileall
import json
import os
import shutil
from argparse import Namespace, _SubParsersAction
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from .. import __version__
from ..osutil.light import TYPE_CHECKING, NamedTuple
from ..qemu.trial import shim
from . import output, rules
from .payload import (
    COMMAND,
    CONFIGURATION,
    DIRECTORIES,
    HOOK,
    HOOKS,
    LIBRARY,
    MANIFEST,
    RULES,
    SHIM,
    STATES,
    UNIT,
    WANTED,
    InstallError,
    Payload,
    data_file,
    payload,
)
from .placed import digest, digest_at, remove, remove_empty, write

if TYPE_CHECKING:
    from typing import Any

SCHEMA = 1


class Manifest(NamedTuple):
    """An installation's files: digests by path; of the configuration and the vendors' rules, which
    the operator may change, as shipped."""

    files: dict[str, str]
    configuration: str
    rules: dict[str, str]


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare both commands."""
    for name, run, text in (
        ("install", _install, "install the hook and the command on this host"),
        ("uninstall", _uninstall, "remove what install put there"),
    ):
        parser = commands.add_parser(name, help=text)
        parser.add_argument("--root", metavar="DIR", default="/", help="stage below DIR")
        output.add_format(parser)
        parser.set_defaults(run=run)


def _install(options: Namespace) -> int:
    with _readable_for_all():
        result = _put_in_place(_root(options.root))
    if options.format == "json":
        print(json.dumps({"schema": SCHEMA, **result}, indent=2))
    else:
        print("\n".join(_installed(result)))
    return 0


@contextmanager
def _readable_for_all() -> Iterator[None]:
    """Files created in here are readable for QEMU's user, whatever root's umask is."""
    # makedirs() and open() apply the umask to every mode that is given.
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _put_in_place(root: str) -> dict[str, Any]:
    files = [*payload()]
    ours = _manifest(root)
    # Before the files are written: the own hook would count as one that was there already.
    reload = _reload(root)
    # All files are checked before the first is written: no half installation.
    _refuse_foreign(root, files, ours.files)
    for item in files:
        write(root, item)
    fresh = {item.path: digest(item.data) for item in files}
    # An older version's modules could otherwise still be imported.
    left = _remove_stale(root, ours.files, fresh)
    for path, mode in DIRECTORIES:
        os.makedirs(os.path.join(root, path), mode=mode, exist_ok=True)
    kept = not _write_configuration(root)
    shipped_rules, kept_rules = rules.put_in_place(root, ours.rules)
    manifest = {
        "version": __version__,
        "files": fresh,
        "configuration": _shipped_digest(root, ours),
        "rules": shipped_rules,
    }
    write(root, Payload(MANIFEST, json.dumps(manifest, indent=1).encode()))
    no_shim = _compile_shim(root)
    library = os.path.join(root, LIBRARY)
    # Compiled here: the hook may run under SELinux or AppArmor without write access to /usr/lib.
    compileall.compile_dir(library, quiet=2, stripdir=root, prependdir="/", force=True)
    # An installation under another umask may have made them.
    for directory, _subdirectories, _files in os.walk(library):
        os.chmod(directory, 0o755)  # noqa: S103 - QEMU's user runs what is in there
    return {
        "installed": [os.path.join(root, path) for path in (HOOK, COMMAND, LIBRARY, UNIT, RULES)],
        "configuration": os.path.join(root, CONFIGURATION),
        "configuration_kept": kept,
        "rules_kept": [os.path.join(root, path) for path in kept_rules],
        "left": left,
        "reload": reload,
        "without_trials": no_shim,
    }


def _compile_shim(root: str) -> str:
    """Compile the trial's fake device for this host; return the error, or nothing."""
    try:
        shim.build(os.path.join(root, SHIM))
    except shim.ShimError as error:
        return str(error)
    return ""


def _uninstall(options: Namespace) -> int:
    result = _take_away(_root(options.root))
    if options.format == "json":
        print(json.dumps({"schema": SCHEMA, **result}, indent=2))
    else:
        print("\n".join(_uninstalled(result)))
    return 0


def _take_away(root: str) -> dict[str, Any]:
    ours = _manifest(root)
    if not ours.files:
        raise InstallError(f"nothing to remove: there is no {os.path.join(root, MANIFEST)}")
    left = [path for path, value in ours.files.items() if not remove(root, path, value)]
    # Not in the manifest: the first is the manifest itself, the second was built on this host.
    for path in (MANIFEST, SHIM):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(root, path))
    _remove_compiled(os.path.join(root, LIBRARY))
    shutil.rmtree(os.path.join(root, DIRECTORIES[0][0]), ignore_errors=True)
    kept = not remove(root, CONFIGURATION, ours.configuration)
    kept_rules = rules.take_away(root, ours.rules)
    for directory in (STATES, os.path.dirname(STATES), os.path.dirname(HOOK)):
        remove_empty(os.path.join(root, directory))
    return {
        "left": [os.path.join(root, path) for path in left],
        "configuration": os.path.join(root, CONFIGURATION),
        "configuration_kept": kept,
        "rules_kept": [os.path.join(root, path) for path in kept_rules],
        "service_enabled": os.path.lexists(os.path.join(root, WANTED)),
    }


def _root(root: str) -> str:
    if not os.path.isdir(root):
        raise InstallError(f"{root} is not a directory; create it first")
    if not os.access(root, os.W_OK):
        raise InstallError(f"{root} is not writable; run this as root")
    return os.path.abspath(root)


def _manifest(root: str) -> Manifest:
    path = os.path.join(root, MANIFEST)
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
            # Versions before the rules have none in their manifests.
            files, shipped = value["files"], value.get("rules", {})
            return Manifest(_texts(files), str(value.get("configuration", "")), _texts(shipped))
    except FileNotFoundError:
        return Manifest({}, "", {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InstallError(
            f"{path}: cannot be read: {error}; move it away to start anew"
        ) from error


def _texts(digests: Mapping[object, object]) -> dict[str, str]:
    return {str(path): str(value) for path, value in digests.items()}


def _refuse_foreign(root: str, files: list[Payload], ours: dict[str, str]) -> None:
    """Raise, before the first write, if a file in place is not ours or was changed since."""
    for item in files:
        path = os.path.join(root, item.path)
        # Following a link could overwrite a file that a package or an operator owns.
        if os.path.islink(path):
            raise InstallError(
                f"{path} is a symbolic link, which install never makes; move it away and run"
                " install again"
            )
        found = digest_at(path)
        # Equal content is not a conflict: an interrupted installation can be repeated.
        if found in (None, ours.get(item.path), digest(item.data)):
            continue
        state = "was changed since it was installed" if item.path in ours else "is not ours"
        raise InstallError(f"{path} {state}; move it away and run install again")


def _remove_stale(root: str, old: dict[str, str], fresh: dict[str, str]) -> list[str]:
    """Remove what only an older version had; returns what was changed and is therefore left."""
    stale = {path: digest for path, digest in old.items() if path not in fresh}
    return [os.path.join(root, path) for path in stale if not remove(root, path, stale[path])]


def _remove_compiled(library: str) -> None:
    """Remove what Python compiled, and every directory that is empty then."""
    for directory, _subdirectories, files in os.walk(library, topdown=False):
        for name in files if os.path.basename(directory) == "__pycache__" else ():
            os.unlink(os.path.join(directory, name))
        remove_empty(directory)


def _write_configuration(root: str) -> bool:
    """Install the configuration where there is none; an operator's is never touched."""
    if os.path.lexists(os.path.join(root, CONFIGURATION)):
        return False
    write(root, Payload(CONFIGURATION, data_file("etc/vfio-preflight.conf")))
    return True


def _shipped_digest(root: str, ours: Manifest) -> str:
    """The digest of an unchanged configuration: this version's, or that of the installed one."""
    shipped = digest(data_file("etc/vfio-preflight.conf"))
    found = digest_at(os.path.join(root, CONFIGURATION))
    # An operator's edit keeps the digest of the file as it was shipped, so it is never removed.
    return shipped if found == shipped else ours.configuration


def _reload(root: str) -> str:
    """Whether libvirt has to look for hooks anew, as far as the files on disk show.

    It does so when its daemon starts; if it found a qemu hook then, it finds later ones by itself.
    """
    directory = os.path.join(root, HOOKS, "qemu.d")
    found = set(os.listdir(directory)) if os.path.isdir(directory) else set()
    # virHookCheck() at daemon start: any qemu hook, in the file or the directory, is enough.
    if found - {os.path.basename(HOOK)} or os.path.exists(os.path.join(root, HOOKS, "qemu")):
        return "not-needed"
    return "unless-done" if found else "needed"


RELOAD = "  systemctl reload libvirtd    (or virtqemud)"
RELOADS = {
    "not-needed": "libvirt had a qemu hook before: no reload needed",
    "unless-done": "It is this host's only qemu hook. Unless libvirt was reloaded or restarted"
    f" since it was\nfirst installed, run\n{RELOAD}",
    "needed": "This is this host's first qemu hook, and libvirt looks for hooks when it starts."
    f" Run\n{RELOAD}",
}


def _installed(result: dict[str, Any]) -> Iterator[str]:
    heads = ("installed:", *("          ",) * len(result["installed"]))
    for head, path in zip(heads, result["installed"]):
        yield f"{head} {path}"
    yield f"{'kept:     ' if result['configuration_kept'] else heads[0]} {result['configuration']}"
    for path in result["rules_kept"]:
        yield f"kept:      {path}"
    yield from _left(result["left"])
    yield RELOADS[result["reload"]]
    if result["without_trials"]:
        yield f"without trials: {result['without_trials']}"
    yield "To record what guests' devices present as they start, run"
    yield f"  systemctl daemon-reload && systemctl enable --now {os.path.basename(UNIT)}"


def _uninstalled(result: dict[str, Any]) -> Iterator[str]:
    yield from _left(result["left"])
    for path in (*[result["configuration"]] * result["configuration_kept"], *result["rules_kept"]):
        yield f"left in place, yours: {path}"
    yield "vfio-preflight is removed; libvirt needs no reload for that"
    if result["service_enabled"]:
        yield f"its service is still enabled: systemctl disable --now {os.path.basename(UNIT)}"


def _left(paths: list[str]) -> Iterator[str]:
    for path in paths:
        yield f"left in place, changed since it was installed: {path}"
