"""What every params.yaml section is, and how the file is read.

No defaults in code: DVC sees only params.yaml, so a default in code would be a
hyperparameter that nobody recorded.
"""

import difflib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML, YAMLError

from llm.errors import ConfigError


class Section(BaseModel):
    """One params.yaml section: immutable, no unknown keys, no coercion, no defaults.

    In the flows' form a field is titled by its key and described by its docstring.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        defer_build=True,  # every process imports all sections, and few check one
        field_title_generator=lambda name, field: field.alias or name,
    )


S = TypeVar("S", bound=Section)


def _without_credentials(value: str) -> str:
    """An address as it may be committed, recorded and shown; the message does not repeat it."""
    if "@" in urlsplit(value).netloc:
        raise ValueError(
            "an address in params.yaml must not hold a user name or password, since params are "
            "committed and recorded; leave out what is before the @ and put credentials into the "
            "environment (AWS_ACCESS_KEY_ID, OPENAI_API_KEY, …)"
        )
    return value


Address = Annotated[str, AfterValidator(_without_credentials)]  # of a server, or a local path


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; ConfigError names the file and line of what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; run from the project's root") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """The mapping in YAML text; ConfigError names the line of what is wrong."""
    try:
        values = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{where} must be a mapping of sections, not {type(values).__name__}")
    return values


def value_at(values: Any, dotted: str) -> Any:
    """The value at a dotted key of nested values; None when there is none."""
    for part in dotted.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def validate(cls: type[S], values: Any, where: str) -> S:
    """`values` as a `cls`; ConfigError lists every error at once, with the nearest known key."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        lines = [_describe(cls, item, where) for item in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def load_section(cls: type[S], name: str, path: Path) -> S:
    """Section `name` of a params.yaml."""
    values = read_yaml(path)
    if name not in values:
        raise ConfigError(f"{path} has no section {name!r}; `llm preset smoke` shows a whole file")
    return validate(cls, values[name], name)


def _describe(cls: type[BaseModel], item: Any, where: str) -> str:
    """One line per error: dotted key, value, rule, remedy."""
    parts = [str(part) for part in item["loc"]]
    key = ".".join(part for part in (where, *parts) if part)
    if item["type"] == "extra_forbidden":
        known = _known_keys(cls, parts[:-1])
        near = difflib.get_close_matches(parts[-1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"{key}: unknown key; {hint}"
    if item["type"] == "missing":
        return f"{key}: missing; add it to params.yaml"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{key}: {message}" if key else message  # a rule across sections names its keys
    shown = repr(item["input"])
    return f"{key}={shown if len(shown) <= 80 else shown[:77] + '...'}: {message}"


def _known_keys(cls: type[BaseModel], parts: list[str]) -> list[str]:
    """Keys of the section at the parts of a dotted key, which may hold a list's number and kind."""
    found = [cls]
    for part in parts:
        if of_kind := [each for each in found if part in _kinds(each)]:
            found = of_kind
        elif not part.isdigit():
            fields = [_fields(each).get(part) for each in found]
            found = [inner for field in fields if field for inner in _sections_in(field.annotation)]
    return sorted({key for each in found for key in _fields(each)})


def _fields(cls: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in cls.model_fields.items()}


def _kinds(cls: type[BaseModel]) -> tuple[Any, ...]:
    """What tells a section from others that may stand in its place."""
    kind = cls.model_fields.get("kind")
    return typing.get_args(kind.annotation) if kind else ()


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation holds, in an Optional, a list or a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [inner for option in typing.get_args(annotation) for inner in _sections_in(option)]
