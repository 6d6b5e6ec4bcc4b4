"""``install`` and ``uninstall``: hook, package, command and configuration.

What libvirt runs must not depend on a virtual environment or a checkout (AppArmor confines libvirtd
to a few directories), so the package is copied to ``/usr/lib/vfio-preflight`` and runs on the
system's own Python. An installation is made as a whole or not at all, and ends with what it proved:
a call of the installed hook for each of libvirt's operations.
"""

from __future__ import annotations

import json
import os
from argparse import Namespace, _SubParsersAction
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .. import __version__
from ..osutil.light import TYPE_CHECKING, NamedTuple
from .arguments import add_format
from .installation import interpreter, labels, owner, proof, reload, removal, rules, versions
from .installation.files import digest, is_as_shipped
from .installation.manifest import Manifest, Ours, read_all
from .installation.payload import (
    COMMAND,
    CONFIGURATION,
    DIRECTORIES,
    HOOK,
    HOOK_NAME,
    LIBRARY,
    RULES,
    UNIT,
    InstallError,
    Payload,
    data_file,
    entries,
    package,
    reinstall,
    version_name,
)
from .installation.transaction import Transaction, alone

if TYPE_CHECKING:
    from typing import Any

SCHEMA = 1


class Plan(NamedTuple):
    """What is to be put in place, all of it read before the first change."""

    version: str
    files: list[Payload]
    entries: tuple[Payload, ...]
    configuration: Payload
    manifest: Manifest


def add_parser(commands: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Declare both commands."""
    for name, run, text in (
        ("install", _install, "install the hook and the command on this host"),
        ("uninstall", _uninstall, "remove what install put there"),
    ):
        parser = commands.add_parser(name, help=text)
        parser.add_argument("--root", metavar="DIR", default="/", help="stage below DIR")
        add_format(parser)
        parser.set_defaults(run=run)


def _install(options: Namespace) -> int:
    return _carry_out(options, _put_in_place, _installed)


def _uninstall(options: Namespace) -> int:
    return _carry_out(options, removal.take_away, _uninstalled)


def _carry_out(
    options: Namespace,
    work: Callable[[str], dict[str, Any]],
    told: Callable[[dict[str, Any]], Iterator[str]],
) -> int:
    root = _root(options.root)
    with _readable_for_all(), alone(root):
        result = work(root)
    if options.format == "json":
        print(json.dumps({"schema": SCHEMA, **result}, indent=2))
    else:
        print("\n".join(told(result)))
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


def _root(root: str) -> str:
    if not os.path.isdir(root):
        raise InstallError(f"{root} is not a directory; create it first")
    return os.path.abspath(root)


def _is_this_host(root: str) -> bool:
    return os.path.samefile(root, "/")


def _put_in_place(root: str) -> dict[str, Any]:
    owner.refuse_install(root)
    ours = read_all(root)
    plan = _plan(root, ours)
    # Everything is checked before the first change.
    _refuse_foreign(root, plan.entries, ours)
    versions.refuse_changed(root, ours)
    here = _is_this_host(root)
    if not here:
        _refuse_outside(root, plan)
    if here:
        interpreter.require(plan.files[0].data)
    # Before our own hook is there.
    advice = reload.advice(root, reload.hooks(root), staged=not here)
    before = versions.in_force(root, ours)
    kept = os.path.lexists(os.path.join(root, CONFIGURATION))
    removal.sweep(root)
    with Transaction(root) as change:
        no_trials, kept_rules = _change(change, root, plan, ours)
        mislabelled = labels.restore(_labelled(root, plan)) if here else ""
        proved = proof.prove(root) if here else []
        # From here on a signal comes too late.
        change.check()
    left = versions.retire(root, ours, {before, f"{LIBRARY}/{plan.version}"})
    return {
        "installed": [os.path.join(root, path) for path in (HOOK, COMMAND, LIBRARY, UNIT, RULES)],
        "version": __version__,
        "configuration": os.path.join(root, CONFIGURATION),
        "configuration_kept": kept,
        "rules_kept": [os.path.join(root, path) for path in kept_rules],
        "left": [os.path.join(root, path) for path in left],
        "reload": advice.reload,
        "reload_text": advice.text,
        "without_trials": no_trials,
        "labels": mislabelled,
        "proved": [each._asdict() for each in proved],
    }


def _plan(root: str, ours: Ours) -> Plan:
    """Raises InstallError if a file of the installation is missing."""
    version = version_name()
    files, placed = [*package(version)], entries()
    assert files[0].path == HOOK_NAME
    configuration = Payload(CONFIGURATION, data_file("etc/vfio-preflight.conf"))
    digests = {item.path: digest(item.data) for item in placed}
    digests.update({f"{LIBRARY}/{version}/{item.path}": digest(item.data) for item in files})
    shipped = versions.configuration_digest(root, CONFIGURATION, digest(configuration.data), ours)
    shipped_rules = {path: digest(item.data) for path, item in rules.shipped().items()}
    manifest = Manifest(__version__, digests, shipped, shipped_rules, reinstall())
    return Plan(version, files, placed, configuration, manifest)


def _change(change: Transaction, root: str, plan: Plan, ours: Ours) -> tuple[str, list[str]]:
    """All changes; returns why there will be no trials, and which rules are the operator's."""
    hook, *others = plan.entries
    no_trials = versions.stage(change, root, plan.version, plan.files, plan.manifest)
    for path, mode in DIRECTORIES:
        change.directory(path, mode)
    # An operator's configuration is never touched.
    if not os.path.lexists(os.path.join(root, CONFIGURATION)):
        change.write(plan.configuration)
    kept: list[str] = []

    def put_others() -> None:
        kept.extend(rules.put_in_place(change, root, ours.rules()))
        for item in others:
            change.write(item)
        known = ours.entries()
        for path in known.keys() - {item.path for item in plan.entries}:
            if is_as_shipped(os.path.join(root, path), known[path]):
                change.remove(path)

    # The hook goes in last. Where there is one it goes over to the new version at once, in one
    # rename, before what the old version must not see: newer rules.
    upgrade = os.path.lexists(os.path.join(root, HOOK))
    if not upgrade:
        put_others()
    versions.put_in_force(change, root, plan.version)
    change.write(hook)
    if upgrade:
        put_others()
    return no_trials, kept


def _refuse_outside(root: str, plan: Plan) -> None:
    """A staged tree's links may lead out of it: /etc/libvirt to the /persist of this host."""
    inside = os.path.join(os.path.realpath(root), "")
    directories = {os.path.dirname(item.path) for item in (*plan.entries, plan.configuration)}
    for path in sorted(directories | {LIBRARY, RULES} | {path for path, _ in DIRECTORIES}):
        full = os.path.join(root, path)
        place = os.path.realpath(full)
        if not os.path.join(place, "").startswith(inside):
            raise InstallError(
                f"{full} is {place}, which is not below {root}: a link leads out of it; make it a"
                " relative one, or install on the host itself; nothing was changed"
            )


def _labelled(root: str, plan: Plan) -> list[str]:
    paths = (LIBRARY, *(item.path for item in plan.entries), CONFIGURATION, os.path.dirname(RULES))
    return [os.path.join(root, path) for path in (*paths, *(path for path, _ in DIRECTORIES))]


def _refuse_foreign(root: str, items: tuple[Payload, ...], ours: Ours) -> None:
    """Raise InstallError if a file in place is not ours or was changed since."""
    known = ours.entries()
    for item in items:
        path, shipped = os.path.join(root, item.path), known.get(item.path, set())
        state = "was changed since it was installed" if shipped else "is not ours"
        # Following a link could overwrite a file that a package or an operator owns. Equal content
        # is not a conflict.
        if os.path.lexists(path):
            versions.require(is_as_shipped(path, {*shipped, digest(item.data)}), path, state)


def _installed(result: dict[str, Any]) -> Iterator[str]:
    heads = ("installed:", *("          ",) * len(result["installed"]))
    for head, path in zip(heads, result["installed"]):
        yield f"{head} {path}"
    yield f"{'kept:     ' if result['configuration_kept'] else heads[0]} {result['configuration']}"
    for path in result["rules_kept"]:
        yield f"kept:      {path}"
    yield from _left(result["left"])
    yield from _proved(result["proved"])
    if result["labels"]:
        yield result["labels"]
    yield result["reload_text"]
    if result["without_trials"]:
        yield f"without trials: {result['without_trials']}"
    yield "To record what guests' devices present as they start, run"
    yield f"  systemctl daemon-reload && systemctl enable --now {os.path.basename(UNIT)}"


def _proved(proved: list[dict[str, Any]]) -> Iterator[str]:
    if not proved:
        yield "not tried: the hook is staged, and does not run from there"
        return
    yield "proved: the hook, called as libvirt calls it for made-up guests,"
    for did in (proof.PROVED, proof.PASSED):
        calls = [each["call"] for each in proved if each["did"] == did]
        seconds = max(each["seconds"] for each in proved if each["did"] == did)
        yield f"  {did} at {', '.join(calls)} (within {seconds:.2f} s)"


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
