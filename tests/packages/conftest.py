"""The packages, built once from this checkout and once from one that is made a newer version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lab import Lab

from .target import Target

CHECKOUT = Path(__file__).parents[2]
PARTS = ("LICENSE", "README.md", "docs", "etc", "hooks", "packages", "plugin")
NEWER = "0.2.0"
PROGRAMS = (
    *("dpkg-buildpackage", "dh", "lintian", "rpmbuild", "rpmlint", "man", "mandoc"),
    *("bash", "zsh", "fish", "cc", "libvirtd", "unshare"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without their components these tests are skipped by a developer's leave, and fail in CI."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if os.geteuid() != 0:
        absent.append("root's rights")
    missing = ", ".join(absent)
    if missing and os.environ.get("CI") == "true":
        raise pytest.UsageError(f"tests of packages lack: {missing}")
    for item in items if missing else ():
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=f"lacks {missing}"))


def build(kind: str, checkout: Path, out: Path) -> Path:
    """The package of a checkout, built as ``make`` builds it."""
    command = [str(checkout / f"packages/build-{kind}"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = out.glob(f"*.{kind}")
    (package,) = (path for path in found if not re.search(r"\.src\.|-selinux-", path.name))
    return package


class Packages(NamedTuple):
    """Both versions' packages, and the checkout of the newer one."""

    current: Path
    newer: Path
    checkout: Path


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of a newer version, with another configuration and another rule as well."""
    checkout = tmp_path_factory.mktemp("newer")
    for part in PARTS:
        source, ignored = CHECKOUT / part, shutil.ignore_patterns("__pycache__", "*.so")
        if source.is_dir():
            shutil.copytree(source, checkout / part, ignore=ignored)
        else:
            shutil.copy(source, checkout / part)
    (checkout / "plugin/vfio_preflight/__init__.py").write_text(f'__version__ = "{NEWER}"\n')
    changes = checkout / "packages/changes"
    changes.write_text(f"{NEWER} 2027-01-02\n- Newer.\n\n{changes.read_text()}")
    for name in ("etc/vfio-preflight.conf", "etc/vendor-rules.d/nvidia.ini"):
        path = checkout / name
        path.write_text(f"# {NEWER}\n{path.read_text()}")
    return checkout


def both(kind: str, newer: Path, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    out = tmp_path_factory.mktemp(kind)
    return Packages(build(kind, CHECKOUT, out / "1"), build(kind, newer, out / "2"), newer)


@pytest.fixture(scope="session")
def debs(newer: Path, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    return both("deb", newer, tmp_path_factory)


@pytest.fixture(scope="session")
def rpms(newer: Path, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    return both("rpm", newer, tmp_path_factory)


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts, on which nothing is installed, with a real libvirtd each."""
    with Lab(tmp_path_factory.mktemp("hosts")) as lab:
        yield lab


@pytest.fixture(scope="session")
def bare(hosts: Lab) -> Target:
    return Target(hosts)
