"""Third-party segmenters and anchor sources, found by the entry points of installed packages.

Nothing is imported until a plug-in is asked for; one that fails is named with its error and hides no other.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Final, Literal

from r2seg_agent.errors import InputError, MissingDependencyError, R2SegError
from r2seg_agent.frozen import Frozen

Group = Literal["r2seg_agent.segmenters", "r2seg_agent.anchors"]
SEGMENTER_GROUP: Final[Group] = "r2seg_agent.segmenters"
ANCHOR_GROUP: Final[Group] = "r2seg_agent.anchors"


class Plugin(Frozen):
    """One entry point. `name` is what the user types; `package` and `version` are the distribution that brought it."""

    name: str
    target: str
    package: str
    version: str

    @property
    def label(self) -> str:
        """For lists and errors."""
        return f"`{self.name}` of package {self.package} {self.version}"


def plugins(group: Group) -> tuple[Plugin, ...]:
    """All installed plug-ins of a group by name; imports none of them."""
    return tuple(sorted((_described(point) for point in entry_points(group=group)), key=lambda p: (p.name, p.package)))


def made_by_plugin(group: Group, name: str, option: str) -> object | None:
    """What the plug-in `name` makes of `option` (the text behind the colon, "" for none); None when there is no such.

    Raises `MissingDependencyError` with the plug-in's own error when it cannot be imported or fails, `InputError` when
    two packages bring the same name.
    """
    points = [point for point in entry_points(group=group) if point.name == name]
    if not points:
        return None
    if len({point.value for point in points}) > 1:
        both = " and ".join(_described(point).label for point in points)
        raise InputError(f"two plug-ins have the same name: {both}", "Uninstall one of the two packages.")
    return call_plugin(_described(points[0]), _imported(points[0]), option)


def call_plugin(plugin: Plugin, make: Callable[[str], object], option: str) -> object:
    """`make(option)`; whatever goes wrong in foreign code becomes a `MissingDependencyError` that names it."""
    try:
        return make(option)
    except R2SegError:
        raise
    except Exception as error:
        raise _failed(plugin, error) from error


def _imported(point: EntryPoint) -> Callable[[str], object]:
    plugin = _described(point)
    try:
        make: object = point.load()
    except Exception as error:
        raise _failed(plugin, error) from error
    if not callable(make):
        raise MissingDependencyError(
            f"the plug-in {plugin.label} is no function: `{plugin.target}` is {type(make).__name__}",
            "Its entry point must name a function or class that takes one text (docs/guide/models.md).",
        )
    return make


def _failed(plugin: Plugin, error: Exception) -> MissingDependencyError:
    return MissingDependencyError(
        f"the plug-in {plugin.label} fails: {type(error).__name__}: {error}",
        f"Install what it lacks, or ask its authors; `pip uninstall {plugin.package}` removes it.",
    )


def _described(point: EntryPoint) -> Plugin:
    owner = point.dist
    return Plugin(
        name=point.name,
        target=point.value,
        package="unknown" if owner is None else owner.name,
        version="" if owner is None else owner.version,
    )
