"""Made-up roots with an installation in them, and what is in force there."""

from __future__ import annotations

import json
import re
import shutil
import stat
from pathlib import Path

import pytest

from vfio_preflight.cli.installation import payload
from vfio_preflight.cli.installation.files import digest
from vfio_preflight.cli.main import main

CHECKOUT = Path(__file__).parents[3]
HOOK, COMMAND, UNIT = payload.HOOK, payload.COMMAND, payload.UNIT
PACKAGE, LAUNCHER = payload.PACKAGE, payload.LAUNCHER
LIBRARY, CURRENT = payload.LIBRARY, payload.CURRENT
MANIFEST = f"{CURRENT}/manifest.json"
CONFIGURATION, RULES = payload.CONFIGURATION, payload.RULES
# By the link for people, as an operator would find it.
MODULE = f"{LIBRARY}/vfio_preflight/report/text.py"
VERSION = re.compile(r"[\w.]+-[0-9a-f]{8}")


def run(command: str, root: Path) -> int:
    return main([command, "--root", str(root)])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def versions(root: Path) -> set[str]:
    """The directories of versions that are there."""
    return {path.name for path in (root / LIBRARY).iterdir() if VERSION.fullmatch(path.name)}


def files(root: Path) -> dict[str, bytes]:
    """All files but compiled ones; of versions only that in force, without its name."""
    current = (root / CURRENT).readlink().name if (root / CURRENT).is_symlink() else ""
    found = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        parts = name.split("/")
        other = len(parts) > 3 and VERSION.fullmatch(parts[3]) and parts[3] != current
        if path.is_symlink() or not path.is_file() or path.suffix == ".pyc" or other:
            continue
        data = path.read_bytes()
        if current:
            name = name.replace(f"{LIBRARY}/{current}/", f"{CURRENT}/")
            data = data.replace(current.encode(), b"VERSION")
            # In the manifest: the hook has the version in it, and so another digest in each.
            data = re.sub(rb'(VERSION/hook": ")[0-9a-f]{64}', rb"\1", data)
        found[name] = data
    return found


def leftovers(root: Path) -> list[str]:
    """What should not be there after an installation."""
    return [str(path.relative_to(root)) for path in root.rglob(".*")]


def make_flat(root: Path) -> None:
    """Rearrange an installation as it was before versions had directories of their own."""
    library, current = root / LIBRARY, (root / CURRENT).resolve()
    (library / "vfio_preflight").unlink()
    (root / CURRENT).unlink()
    manifest = json.loads((current / "manifest.json").read_text())
    (current / "hook").unlink()
    shutil.move(str(current / "vfio_preflight"), library / "vfio_preflight")
    shutil.rmtree(current)
    (root / HOOK).write_bytes((CHECKOUT / "hooks/vfio-preflight").read_bytes())
    (root / COMMAND).write_text("#!/usr/bin/python3 -I\n# an older command\n")
    paths = {
        path.replace(f"{LIBRARY}/{current.name}/", f"{LIBRARY}/") for path in manifest["files"]
    }
    paths -= {f"{LIBRARY}/hook"}
    manifest["files"] = {path: digest((root / path).read_bytes()) for path in paths}
    (library / "manifest.json").write_text(json.dumps(manifest))


def small_package(directory: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have only the hook's modules be installed, and the command, which end with ``text``."""
    copy = directory / "vfio_preflight"
    (copy / "qemu/trial").mkdir(parents=True)
    (copy / "hook").mkdir()
    for path in (Path(PACKAGE) / "hook").glob("*.py"):
        (copy / "hook" / path.name).write_text(path.read_text() + text)
    (copy / "qemu/trial/fakevfio.c").write_text("")
    monkeypatch.setattr(payload, "PACKAGE", str(copy))
    monkeypatch.setattr(payload, "LAUNCHER", LAUNCHER + text)


def hook_modules(root: Path) -> tuple[bool, set[bool]]:
    """What libvirt would run: whether there is a hook, and which of its modules are older."""
    if not (root / HOOK).exists():
        return False, set()
    text = (root / HOOK).read_text()
    package = root / LIBRARY / "vfio_preflight"
    if text == payload.ENTRY:
        body = (root / CURRENT / "hook").read_text()
        found = re.search(r'"/(usr/lib/vfio-preflight/[^"]+)"', body)
        assert found
        package = root / found[1] / "vfio_preflight"
    modules = [*(package / "hook").glob("*.py")]
    assert len(modules) > 5
    return True, {path.read_text().endswith("# older\n") for path in modules}
