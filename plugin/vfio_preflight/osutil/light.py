"""``NamedTuple`` and ``TypedDict`` as in ``typing``, without their cost at start-up.

The hook is a new process for every event that it handles. A quarter of its time was spent importing
``typing`` and on its work for each of some sixty tuple classes: it compiles a constructor and
evaluates every annotation. Type checkers see the originals; at run time a class with the same
behaviour is created, as far as this package uses it:

    >>> class Bar(NamedTuple):
    ...     index: int
    ...     size: int = 4096
    >>> Bar(0), Bar(index=1, size=256)._replace(index=2)
    (Bar(index=0, size=4096), Bar(index=2, size=256))
"""

from __future__ import annotations

from operator import itemgetter

# Not typing's constant, whose import costs what this module saves; mypy knows it by its name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
    from typing import TypedDict as TypedDict
else:

    def _new(cls, /, *values, **named):
        missing = len(cls._fields) - len(values)
        if named or not 0 <= missing <= len(cls._defaults):
            values = _completed(cls, values, named)
        elif missing:
            values += cls._defaults[-missing:]
        return tuple.__new__(cls, values)

    def _completed(cls, values, named):
        """All values in order, from positional and named ones and defaults; or TypeError."""
        given = dict(zip(cls._fields, values))
        unknown = [name for name in named if name in given or name not in cls._fields]
        if len(values) > len(cls._fields) or unknown:
            raise TypeError(
                f"{cls.__name__}({', '.join(cls._fields)}) got {len(values)} values and {[*named]}"
            )
        given = {**cls._field_defaults, **given, **named}
        missing = [field for field in cls._fields if field not in given]
        if missing:
            raise TypeError(f"{cls.__name__}() misses {', '.join(missing)}")
        return [given[field] for field in cls._fields]

    def _replace(self, /, **changes):
        replaced = tuple.__new__(type(self), map(changes.pop, self._fields, self))
        if changes:
            raise TypeError(f"{type(self).__name__} has no {', '.join(changes)}")
        return replaced

    def _asdict(self):
        return dict(zip(self._fields, self))

    def _repr(self):
        fields = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
        return f"{type(self).__name__}({fields})"

    _METHODS = {"__new__": _new, "__repr__": _repr, "_replace": _replace, "_asdict": _asdict}

    class _NamedTupleMeta(type):
        def __new__(mcs, name, bases, namespace):
            # The class NamedTuple itself, which has no fields.
            if not bases:
                return super().__new__(mcs, name, bases, namespace)
            # Strings, as every module has "from __future__ import annotations": nothing is
            # evaluated.
            fields = tuple(namespace.get("__annotations__", ()))
            defaults = {field: namespace.pop(field) for field in fields if field in namespace}
            if tuple(defaults) != fields[len(fields) - len(defaults) :]:
                raise TypeError(f"{name}: a field without a default follows one with a default")
            # itemgetter is implemented in C: access costs about what it does in
            # collections.namedtuple.
            members = {field: property(itemgetter(n)) for n, field in enumerate(fields)}
            # No __dict__, as in typing: an attribute that is not a field cannot be set.
            own = {"__slots__": (), "_fields": fields, "_field_defaults": defaults}
            own["_defaults"] = tuple(defaults.values())
            return type(name, (tuple,), {**_METHODS, **namespace, **members, **own})

    class NamedTuple(metaclass=_NamedTupleMeta):
        """See :class:`typing.NamedTuple`."""

    class _TypedDictMeta(type):
        def __new__(mcs, name, bases, namespace, total=True):
            return super().__new__(mcs, name, (dict,), {"__slots__": ()})

    class TypedDict(dict, metaclass=_TypedDictMeta):
        """See :class:`typing.TypedDict`; a plain dictionary at run time."""
