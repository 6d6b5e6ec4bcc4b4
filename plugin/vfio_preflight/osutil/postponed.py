"""The module ``inspect``, loaded when something of it is used.

As lxml is imported it takes one function of it, for parser targets in Python, and Cython, in which
it is written, wraps another so that it knows lxml's generators. Nothing here has either. The module
and those that it loads (ast, dis, tokenize) are a tenth of what a check costs.

    >>> postpone_inspect()
    >>> from lxml import etree
    >>> end_postponing()

Source: lxml, src/lxml/etree.pyx and parsertarget.pxi; Cython 0.29, ``__Pyx_patch_inspect()``.
"""

from __future__ import annotations

import sys

from .light import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

_NAME = "inspect"


class _Inspect(type(sys)):  # type: ignore[misc]
    """Stands for the module; whatever is asked of it is the real one's."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        # Of every module the import system asks whether it is a package (__path__).
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_real(), name)

    # These are here, so that who imports them does not yet ask for the module.
    @staticmethod
    def getfullargspec(function: object) -> Any:  # noqa: ANN401
        return _real().getfullargspec(function)

    @staticmethod
    def isgenerator(thing: object) -> Any:  # noqa: ANN401
        return _real().isgenerator(thing)


def postpone_inspect() -> None:
    """From now on who imports ``inspect`` gets what stands for it, unless it is loaded already."""
    sys.modules.setdefault(_NAME, _Inspect(_NAME))


def end_postponing() -> None:
    """Who imports ``inspect`` from now on gets the module itself."""
    if isinstance(sys.modules.get(_NAME), _Inspect):
        del sys.modules[_NAME]


def _real() -> ModuleType:
    end_postponing()
    import inspect

    return inspect
