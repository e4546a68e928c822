"""Presets: named sets of values that are written into params.yaml, comments kept."""

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from llm.config.base import read_yaml, validate
from llm.config.params import Params
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
    """params.yaml's text with other values; nothing else changes, comments and order stay."""
    yaml = YAML()
    yaml.width = 4096  # no line is folded
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load(text)
    _merge(document, values, where)
    stream = io.StringIO()
    yaml.dump(document, stream)
    validate(Params, YAML(typ="safe").load(stream.getvalue()), "")
    return stream.getvalue()


def _merge(target: Any, values: dict[str, Any], where: str) -> None:
    for key, value in values.items():
        if key not in target:
            raise ConfigError(f"{where}: params.yaml has no key {key!r}")
        if isinstance(value, dict) and isinstance(target[key], dict):
            _merge(target[key], value, f"{where}.{key}")
        elif target[key] != value:
            target[key] = value
