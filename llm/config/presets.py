"""Presets: named sets of values that are written into params.yaml, comments kept."""

import copy
import difflib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from llm.config.base import parse_yaml, read_yaml
from llm.config.depth import set_by_depth
from llm.config.params import PARAMS, checked
from llm.errors import ConfigError

FOLDER = Path("presets")
DEFAULT = "default"


def preset_names(folder: Path = FOLDER) -> list[str]:
    """The presets there are."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def apply_preset(text: str, name: str, folder: Path = FOLDER) -> str:
    """params.yaml's text with a preset's values; ConfigError when the result is not valid.

    Preset `default` goes first, so that nothing of a preset applied earlier remains.
    """
    if name not in preset_names(folder):
        raise ConfigError(f"no preset {name!r}; there are {', '.join(preset_names(folder))}")
    for each in dict.fromkeys((DEFAULT, name)):
        text = apply_values(text, read_yaml(folder / f"{each}.yaml"), each)
    return text


def apply_values(text: str, values: dict[str, Any], where: str) -> str:
    """params.yaml's text with other values, and what its `model.depth` sets.

    Nothing else changes, comments and order stay. ConfigError when the result is not valid.
    """
    before = _plain(text)
    yaml = YAML()
    yaml.representer.add_representer(type(None), _null)
    yaml.width = 4096  # no line is folded
    yaml.preserve_quotes = True  # [a?] without them cannot be read again
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load(text)
    _merge(document, values, where)
    if found := set_by_depth(before, values, _plain(_dumped(yaml, document))):
        _merge(document, nested(found), where)
    checked(_plain(_dumped(yaml, document)))
    return _dumped(yaml, document)


def _dumped(yaml: YAML, document: Any) -> str:
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _plain(text: str) -> dict[str, Any]:
    return parse_yaml(text, str(PARAMS))


def _null(representer: RoundTripRepresenter, value: None) -> ScalarNode:
    """`null` stays as it is; ruamel.yaml would write nothing."""
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def apply_overrides(text: str, overrides: Mapping[str, Any]) -> str:
    """params.yaml's text with the values of dotted keys, e.g. {"dpo.beta": 0.2}.

    ConfigError lists every key that there is not, with the nearest, or every bad value.
    """
    known = list(_every_key(_plain(text)))
    if unknown := [key for key in overrides if key not in known]:
        raise ConfigError("\n".join(_unknown(key, known) for key in unknown))
    return apply_values(text, nested(overrides), "overrides")


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested values; ConfigError where one key is a part of another."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        target = found
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise ConfigError(f"overrides: {key!r} and all of {section!r}; choose one")
        target[last] = copy.deepcopy(value)
    return found


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What of `after` differs from `before`, as a mapping of the same form; lists count as a whole."""
    found = {}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            if inner := changes(old, value):
                found[key] = inner
        elif value != old:
            found[key] = value
    return found


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under dotted keys, as `apply_overrides` takes them; lists are values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping)
        flat |= dotted(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return flat


def _every_key(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key of nested values; a section's own key as well."""
    for key, value in values.items():
        yield prefix + key
        if isinstance(value, Mapping):
            yield from _every_key(value, f"{prefix}{key}.")


def _unknown(key: str, known: list[str]) -> str:
    same_end = [each for each in known if each.endswith("." + key)]
    near = same_end or difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "see params.yaml"
    return f"overrides: no key {key!r}; {hint}"


def _merge(target: Any, values: dict[str, Any], where: str) -> None:
    for key, value in values.items():
        if key not in target:
            raise ConfigError(f"{where}: params.yaml has no key {key!r}")
        if isinstance(value, dict) and isinstance(target[key], dict):
            _merge(target[key], value, f"{where}.{key}")
        elif target[key] != value:
            target[key] = value
