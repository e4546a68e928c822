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
    parts: dict[int, set[str]]  # by length: however many there are, a look-up is one
    starts: frozenset[str]  # of the parts, each as long as the shortest part

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
        url, least = url.lower(), min(self.parts, default=0)
        for at in range(len(url) if self.parts else 0):
            if url[at : at + least] in self.starts:
                for length, parts in self.parts.items():
                    if url[at : at + length] in parts:
                        return url[at : at + length]
        return None


@cache
def read_blocklist(path: Path) -> Blocklist:
    """Entries with a slash are parts of URLs, the others domains; case makes no difference."""
    entries = [entry.lower() for entry in _entries(path)]
    parts: dict[int, set[str]] = {}
    for entry in entries:
        if "/" in entry:
            parts.setdefault(len(entry), set()).add(entry)
    least = min(parts, default=0)
    return Blocklist(
        frozenset(entry.strip(".") for entry in entries if "/" not in entry),
        parts,
        frozenset(part[:least] for each in parts.values() for part in each),
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
