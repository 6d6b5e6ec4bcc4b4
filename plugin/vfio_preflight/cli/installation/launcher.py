"""The operator's command as it is installed: this file is ``/usr/bin/vfio-preflight``.

What it runs lies in the version that is in force. Where that is broken, no module of it can be
relied on to say so: this file compares what is there with the manifest of the installation, and
names the files and the command that mends them. It imports nothing of the package but the command
itself, and only what every Python 3 has; ``doctor`` uses its functions as well.
"""

import os
import stat
import sys
from importlib import import_module

LIBRARY = "usr/lib/vfio-preflight"
# Who puts the package in place says in its manifest how that is done once more; what an older
# version was put there by is not known.
REINSTALL = "make install # in a checkout of vfio-preflight"
DEB, RPM = "deb", "rpm"
PACKAGES = {
    DEB: "apt-get install -y --reinstall vfio-preflight",
    RPM: "dnf reinstall -y vfio-preflight",
}
# Where apt knows of no archive with the package, it does nothing and ends with 0.
FROM_FILE = "apt-get install -y --reinstall ./vfio-preflight_{version}.deb"
WHERE = " # in the directory with this file: apt knows of no archive that has the package"
# Without the files in which apt keeps what it has read.
APT = (
    *(
        "usr/bin/apt-get",
        "--option",
        "Dir::Cache::pkgcache=",
        "--option",
        "Dir::Cache::srcpkgcache=",
    ),
    *("--simulate", "install", "--reinstall", "vfio-preflight"),
)
# Of a package whose manifest is lost: what dpkg keeps of it, and the script in its directory.
DPKG = "var/lib/dpkg/info/vfio-preflight.list"
MAINTAIN = "maintain"
SECONDS = 30
# What Python and the compiler make on the host itself.
MADE_HERE = ("__pycache__",)
MADE_NAME = "fakevfio.so"
# A module that every version has, and the hexadecimal digits of SHA-256.
MAIN = "/vfio_preflight/__init__.py"
DIGITS = 64
PROBLEM = 1
USAGE_ERROR = 2
# Files that are named in one message.
NAMED = 3


def start(arguments: "list[str]", root: str = "/") -> int:
    """Run the command; say what is broken where it cannot be run."""
    # Followed once: a process imports from one version, whatever is installed while it runs.
    sys.path.insert(0, os.path.realpath(os.path.join(root, LIBRARY, "current")))
    try:
        if arguments[:1] == ["doctor"]:
            _require_files(root)
        return int(import_module("vfio_preflight.__main__").main(arguments))
    except Exception as error:
        return _broken(error, arguments, root)


def _require_files(root: str) -> None:
    """Raise OSError where Python would wait for ever for a module: at a FIFO in its place."""
    for path in in_force(root)[1].get("files", ()):  # type: ignore[attr-defined]
        full = os.path.join(root, path)
        if path.startswith(f"{LIBRARY}/") and os.path.exists(full) and not os.path.isfile(full):
            raise OSError("it is not a regular file")


def _broken(error: Exception, arguments: "list[str]", root: str) -> int:
    place, manifest = in_force(root)
    paths = [*damaged(root, manifest), *stray(root, place, manifest)]
    command = repair(root, manifest, paths)
    told = f"{type(error).__name__}: {ascii(str(error))[1:-1]}"
    doctor = arguments[:1] == ["doctor"]
    if paths or not manifest:
        named = summary(paths) or "it has no manifest"
        text = f"the package in /{LIBRARY} is broken: {named} ({told})"
    elif doctor:
        text = f"the package is as it was installed, and fails ({told})"
    else:
        text, command = f"the command failed ({told})", "vfio-preflight doctor"
    if doctor:
        return _told_as_doctor(text, command, as_json="json" in " ".join(arguments))
    sys.stderr.write(f"vfio-preflight: {text}; to mend: {command}\n")
    return USAGE_ERROR


def _told_as_doctor(text: str, command: str, *, as_json: bool) -> int:
    """What ``doctor`` would have said, had it been able to run."""
    code = "package-broken"
    if as_json:
        import json

        problem = {"code": code, "text": text, "command": command}
        value = {"schema": 1, "healthy": False, "problems": [problem], "unseen": [], "facts": {}}
        print(json.dumps(value, indent=2))
    else:
        print(f"problem   {text} [{code}]\n  to mend: {command}")
    return PROBLEM


def in_force(root: str) -> "tuple[str, dict[str, object]]":
    """The directory of the version in force, and its manifest; that of another where it has none.

    The manifest is empty where none can be read.
    """
    library = os.path.join(root, LIBRARY)
    try:
        current = os.readlink(os.path.join(library, "current"))
        names = sorted(os.listdir(library), key=lambda name: name != current)
    except OSError:
        names = sorted(os.listdir(library)) if os.path.isdir(library) else []
    # What begins with a dot was never completed.
    for name in (name for name in names if name[0] != "." and name != "current"):
        found = _read_manifest(os.path.join(library, name, "manifest.json"))
        if found:
            return f"{LIBRARY}/{name}", found
    return LIBRARY, {}


def _read_manifest(path: str) -> "dict[str, object]":
    import json

    try:
        value = json.loads(_read(path).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) and _lists_package(value.get("files")) else {}


def _lists_package(files: object) -> bool:
    """Whether a manifest's list is whole enough to go by: commands that remove files are made of
    what it does not have."""
    return (
        isinstance(files, dict) and any(map(_is_main, files)) and all(map(_is_entry, files.items()))
    )


def _is_main(path: object) -> bool:
    return isinstance(path, str) and path.startswith(LIBRARY) and path.endswith(MAIN)


def _is_entry(entry: "tuple[object, object]") -> bool:
    path, digest = entry
    is_below = isinstance(path, str) and path[:1] not in ("", "/") and ".." not in path.split("/")
    return is_below and isinstance(digest, str) and len(digest) == DIGITS


def _read(path: str) -> bytes:
    """A regular file; to open a FIFO in its place would wait for ever. Raises OSError."""
    with open(path, "rb", opener=_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path}: it is not a regular file")
        return file.read()


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def damaged(root: str, manifest: "dict[str, object]") -> "list[str]":
    """The paths of the package's files that are missing, or other ones than were installed."""
    import hashlib

    files = manifest.get("files")
    paths = []
    for path, digest in files.items() if isinstance(files, dict) else ():
        full = os.path.join(root, path)
        # What lies elsewhere (the hook, the unit) may be missing for reasons of its own.
        if not path.startswith(f"{LIBRARY}/"):
            continue
        try:
            same = hashlib.sha256(_read(full)).hexdigest() == digest
        except OSError:
            same = False
        if not same or os.path.islink(full):
            paths.append(full)
    return paths + _misled(root, manifest)


def _misled(root: str, manifest: "dict[str, object]") -> "list[str]":
    """The link to the version in force, or that version's manifest, where it leads nowhere."""
    link = os.path.join(root, LIBRARY, "current")
    path = os.path.join(link, "manifest.json")
    if os.path.isdir(link):
        return [] if _read_manifest(path) else [path]
    return [link] if os.path.lexists(link) or manifest else []


def stray(root: str, place: str, manifest: "dict[str, object]") -> "list[str]":
    """The paths below the package's directory that nobody installed: Python may import them."""
    files = manifest.get("files")
    if not isinstance(files, dict):
        return []
    top = os.path.join(root, place, "vfio_preflight")
    known = {os.path.join(root, path) for path in files}
    known |= {directory for path in known for directory in _above(path, top)}
    found = []
    for directory, below, names in os.walk(top):
        below[:] = [name for name in below if name not in MADE_HERE]
        for name in (*below, *names):
            path = os.path.join(directory, name)
            if path not in known and not name.startswith(MADE_NAME):
                found.append(path)
        below[:] = [name for name in below if os.path.join(directory, name) in known]
    return sorted(found)


def _above(path: str, top: str) -> "list[str]":
    found = []
    while path.startswith(f"{top}/"):
        path = os.path.dirname(path)
        found.append(path)
    return found


def repair(root: str, manifest: "dict[str, object]", paths: "list[str]") -> str:
    """The command that puts the package in place once more.

    An installation goes over no file that was changed, so that those have to be removed first; a
    package manager goes over all but a directory.
    """
    again = reinstall(root, manifest)
    changed = [path for path in paths if os.path.lexists(path)]
    if _kind(root, manifest):
        changed = [path for path in changed if os.path.isdir(path) and not os.path.islink(path)]
    return f"rm -rf -- {' '.join(map(quoted, changed))} && {again}" if changed else again


def reinstall(root: str, manifest: "dict[str, object]") -> str:
    """The command that installs what is installed once more."""
    kind = _kind(root, manifest)
    if kind == DEB and not _in_an_archive(root):
        version = f"{manifest['version']}_*" if manifest.get("version") else "*"
        return FROM_FILE.format(version=version) + WHERE
    return str(manifest.get("reinstall") or PACKAGES.get(kind, REINSTALL))


def _kind(root: str, manifest: "dict[str, object]") -> str:
    """The kind of package that is installed, empty for what ``install`` has put there."""
    if manifest:
        return str(manifest.get("package", ""))
    if os.path.exists(os.path.join(root, DPKG)):
        return DEB
    library = os.path.join(root, LIBRARY)
    names = os.listdir(library) if os.path.isdir(library) else []
    packaged = any(os.path.exists(os.path.join(library, name, MAINTAIN)) for name in names)
    return RPM if packaged else ""


def _in_an_archive(root: str) -> bool:
    """Whether apt would install the package once more; so it may, where that cannot be told."""
    import subprocess

    command = [os.path.join(root, APT[0]), *APT[1:]]
    try:
        done = subprocess.run(  # noqa: S603 - constant words
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return True
    return done.returncode != 0 or b"\nInst vfio-preflight " in done.stdout


def quoted(path: str) -> str:
    """``path`` as a word for the shell, whatever characters are in it."""
    import shlex

    if path.isprintable() and path.isascii():
        return shlex.quote(path)
    # Neither a terminal nor a clipboard has such a name as it is.
    try:
        number = os.lstat(path).st_ino
    except OSError:
        return shlex.quote(ascii(path)[1:-1])
    return f'"$(find {quoted(os.path.dirname(path))} -maxdepth 1 -inum {number})"'


def summary(paths: "list[str]") -> str:
    """Some of ``paths`` and how many there are, for a message."""
    told = ", ".join(f"{path} {'' if os.path.lexists(path) else '(missing)'}".strip()
                     for path in paths[:NAMED])  # fmt: skip
    return told + (f" and {len(paths) - NAMED} more" if len(paths) > NAMED else "")


if __name__ == "__main__":
    sys.exit(start(sys.argv[1:]))
