"""What installations put onto this host: the manifest of each version that lies there.

Digests say what is ours: a file that is not, or that was changed since, is never overwritten and
never removed. All manifests count, not only that of the version in force: after an upgrade that
was killed, files of both versions may be in place, and all of them are ours.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping

from ...osutil.light import NamedTuple
from . import owner
from .payload import CURRENT, LIBRARY, MANIFEST_NAME, InstallError


class Manifest(NamedTuple):
    """An installation's files: digests by path; of the configuration and the vendors' rules, which
    the operator may change, as shipped; and the shell command that makes it once more."""

    version: str
    files: dict[str, str]
    configuration: str
    rules: dict[str, str]
    reinstall: str = ""

    def to_json(self) -> bytes:
        return json.dumps(self._asdict(), indent=1).encode()


class Ours(NamedTuple):
    """All manifests of a host: by the path of the directory that each lies in."""

    manifests: dict[str, Manifest]

    def entries(self) -> dict[str, set[str]]:
        """Digests that our files outside of the package's directory may have, by path."""
        found: dict[str, set[str]] = {}
        for manifest in self.manifests.values():
            for path, digest in manifest.files.items():
                if not path.startswith(f"{LIBRARY}/"):
                    found.setdefault(path, set()).add(digest)
        return found

    def rules(self) -> dict[str, set[str]]:
        """Digests of the vendors' rules as they were shipped, by path."""
        found: dict[str, set[str]] = {}
        for manifest in self.manifests.values():
            for path, digest in manifest.rules.items():
                found.setdefault(path, set()).add(digest)
        return found

    def configurations(self) -> set[str]:
        """Digests of the configuration as it was shipped."""
        return {manifest.configuration for manifest in self.manifests.values()} - {""}


def read_all(root: str) -> Ours:
    """Every manifest that ``install`` wrote. Raises InstallError if one cannot be read."""
    library = os.path.join(root, LIBRARY)
    names = sorted(os.listdir(library)) if os.path.isdir(library) else []
    # Before versions had directories of their own, it lay in the library itself. The link is one of
    # the others again, and what begins with a dot was never completed.
    names = [name for name in names if name[0] != "." and name != os.path.basename(CURRENT)]
    places = [LIBRARY, *(f"{LIBRARY}/{name}" for name in names)]
    return Ours(dict(_found(root, places)))


def _found(root: str, places: list[str]) -> Iterator[tuple[str, Manifest]]:
    for place in places:
        path = os.path.join(root, place, MANIFEST_NAME)
        # What a package put there is not ours to remove.
        if os.path.exists(path) and not owner.of(path):
            yield place, _read(path)


def _read(path: str) -> Manifest:
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
        # The first versions had no rules in their manifests.
        files, shipped = value["files"], value.get("rules", {})
        version, configuration = value.get("version", ""), value.get("configuration", "")
        again = str(value.get("reinstall", ""))
        return Manifest(str(version), _texts(files), str(configuration), _texts(shipped), again)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InstallError(
            f"{path}: cannot be read: {error}; move it away to start anew"
        ) from error


def _texts(digests: Mapping[object, object]) -> dict[str, str]:
    return {str(path): str(value) for path, value in digests.items()}
