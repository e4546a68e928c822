"""Lists that a rule reads from a file: one entry a line; empty lines and `#` comments are skipped."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from llm.errors import ConfigError
from llm.files import read_text

SPECIAL = re.compile(r"[^\w\s]")  # what a pattern may take for an operator


@dataclass(frozen=True)
class Blocklist:
    """Domains, and parts of URLs."""

    domains: frozenset[str]
    parts: re.Pattern[str] | None

    def match(self, url: str) -> str | None:
        """The entry that forbids a URL: a domain that its host is or lies in, or a part of it."""
        try:
            host = (urlsplit(url).hostname or "").rstrip(".")
        except ValueError:  # brackets that hold no address
            host = ""
        while host:
            if host in self.domains:
                return host
            host = host.partition(".")[2]
        part = self.parts.search(url) if self.parts else None
        return part.group().lower() if part else None


@cache
def read_blocklist(path: Path) -> Blocklist:
    """Entries with a slash are parts of URLs, the others domains; case makes no difference."""
    entries = list(_entries(path))
    parts = [re.escape(entry) for entry in entries if "/" in entry]
    return Blocklist(
        frozenset(entry.lower().strip(".") for entry in entries if "/" not in entry),
        re.compile("|".join(parts), re.IGNORECASE) if parts else None,
    )


@cache
def bad_words_pattern(path: Path) -> str:
    """A regular expression that matches any of the words and phrases."""
    words = [" ".join(entry.split()) for entry in _entries(path)]
    return "|".join(SPECIAL.sub(lambda mark: "\\" + mark.group(), word) for word in words)


def _entries(path: Path) -> Iterator[str]:
    """ConfigError when there are none."""
    if not path.is_file():
        raise ConfigError(f"filter: there is no list {path}; name a file, or null for none")
    lines = [line.strip() for line in read_text(path).splitlines()]
    entries = [line for line in lines if line and not line.startswith("#")]
    if not entries:
        raise ConfigError(f"filter: the list {path} has no entries; null switches the rule off")
    yield from entries
