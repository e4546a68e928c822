"""Which Python and which packages made a version: recorded with it, compared with what is here.

The default corpus is the packages' own documentation, so another release of one of them
is another corpus.
"""

import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path

from llm.errors import DataError
from llm.files import read_text, write_text

PYTHON = "python"


def installed_packages() -> dict[str, str]:
    """Version by name of Python and of every distribution of this interpreter, sorted."""
    found = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()}
    return {PYTHON: platform.python_version(), **dict(sorted(found.items()))}


def write_packages(path: Path, packages: Mapping[str, str]) -> None:
    """One `name==version` a line."""
    write_text(path, "".join(f"{name}=={version}\n" for name, version in packages.items()))


def read_packages(path: Path) -> dict[str, str]:
    """The inverse; DataError names the line that is none."""
    found = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        name, equals, version = line.partition("==")
        if not equals:
            raise DataError(f"{path}:{number}: {line!r} is not name==version")
        found[name] = version
    return found


def differences(
    then: Mapping[str, str], now: Mapping[str, str]
) -> dict[str, tuple[str | None, str | None]]:
    """Version then and now of each package that differs; None where it is not installed."""
    names = sorted({*then, *now}, key=lambda name: (name != PYTHON, name.lower()))
    return {
        name: (then.get(name), now.get(name)) for name in names if then.get(name) != now.get(name)
    }


def distribution_names(imported: list[str]) -> dict[str, str]:
    """The distribution that each top-level import name comes from, where one is installed."""
    known = importlib.metadata.packages_distributions()
    return {name: known[name][0] for name in imported if name in known}
