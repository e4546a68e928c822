"""The lineage of a registered version as a page: the drawing beside titled tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Cell:
    """A text, and where it leads."""

    text: str
    url: str = ""


@dataclass(frozen=True)
class Section:
    """A title, a sentence, and rows of cells."""

    title: str
    note: str = ""
    rows: list[list[Cell]] = field(default_factory=list)


def render_version(uri: str, aliases: Sequence[str], picture: str, sections: list[Section]) -> str:
    """One HTML file that asks for nothing else; what the texts say is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("lineage.html").render(
        uri=uri, aliases=aliases, picture=Markup(picture), sections=sections
    )
