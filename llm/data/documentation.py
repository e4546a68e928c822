"""Questions about documented Python objects whose answers can be checked word for word.

What a prompt asks for stands in it, so a small model can learn to answer about objects
that it never saw. Names follow the same character (a space, an opening bracket, a line
end) in prompt and answer, which makes their tokens the same: answering is finding and
copying. Each prompt has one right answer.
"""

import ast
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from llm.corpus.documents import Row
from llm.data.conversations import Conversation

NUMPY_SECTION = re.compile(
    r"^Parameters\n[-=]{3,}\n(.*?)(?=\n\n?\S[^\n]*\n[-=]{3,}|\Z)", re.M | re.S
)
NUMPY_ENTRY = re.compile(r"^(\w+) ?: ([^\n]+)(?:\n +([^\n]+))?", re.M)
GOOGLE_SECTION = re.compile(r"^(?:Args|Arguments|Parameters):\n(.*?)(?=\n\S|\Z)", re.M | re.S)
GOOGLE_ENTRY = re.compile(r"^ {2,8}(\w+) \(([^\n]+?)\): ?([^\n]*)", re.M)
MAX_TYPE_CHARACTERS = 60
MIN_SUMMARY_CHARACTERS, MAX_SUMMARY_CHARACTERS = 20, 100

T = TypeVar("T")


@dataclass(frozen=True)
class Documented:
    """A documented object, from a document's columns."""

    id: str
    url: str
    kind: str  # module, class, function or method
    module: str
    qualname: str
    signature: str
    doc: str

    @property
    def name(self) -> str:
        """The last part of the qualified name."""
        return self.qualname.rpartition(".")[2]


@dataclass(frozen=True)
class Asker:
    """Makes the questions of one run: its seed chooses among phrasings, its limit cuts excerpts."""

    seed: int
    max_prompt_characters: int

    def choose(self, options: Sequence[T], *key: str) -> T:
        """One of the options, by a hash of seed and key."""
        return options[int(self.rank(*key)[:16], 16) % len(options)]

    def rank(self, *key: str) -> str:
        """A hash of seed and key, by which items are sampled and shuffled."""
        return hashlib.sha256("\n".join([str(self.seed), *key]).encode()).hexdigest()

    def ask(self, kind: str, documented: Documented) -> Conversation | None:
        """The question of a kind about an object; None where there is none short enough."""
        found = QUESTIONS[kind](self, documented)
        if found is None or len(found[0]) > self.max_prompt_characters:
            return None
        prompt, answer = found
        id_ = hashlib.sha1(f"{documented.id} {kind}".encode()).hexdigest()
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        return Conversation(id_, kind, documented.url, turns)


def read_documented(row: Row) -> Documented | None:
    """The object that a document describes; None for a document that is no docstring."""
    meta = json.loads(row["meta"])
    if "qualname" not in meta:
        return None
    fields = {key: meta[key] for key in ("kind", "module", "qualname", "signature", "doc")}
    return Documented(id=row["id"], url=row["url"], **fields)


Question = tuple[str, str] | None  # prompt and answer


def _import(asker: Asker, documented: Documented) -> Question:
    """A public class or function of a public module."""
    module, name = documented.module, documented.qualname
    hidden = any(part.startswith("_") for part in (*module.split("."), name))
    if documented.kind not in ("class", "function") or "." in name or hidden:
        return None
    phrasing = asker.choose(
        (
            "How do I import the name {name} from the module {module}?",
            "Write the statement that imports {name} of the module {module}.",
            "I need {name} from {module}. Which line imports it?",
        ),
        documented.id,
        "import",
    )
    return phrasing.format(name=name, module=module), f"from {module} import {name}"


def _parameters(asker: Asker, documented: Documented) -> Question:
    """All names of a signature of two or more, in order, with the stars of *args and **kwargs."""
    parsed = _parse(documented)
    if parsed is None or len(parsed.names) < 2 or parsed.call.startswith("(*,"):
        return None
    phrasing = asker.choose(
        (
            "Which parameters does this signature have?",
            "List the parameters, without their defaults.",
            "Name the parameters in order.",
        ),
        documented.id,
        "parameters",
    )
    prompt = f"{phrasing}\n{documented.name}{parsed.call}"
    return prompt, f"({', '.join(parsed.names)})"


def _default(asker: Asker, documented: Documented) -> Question:
    """The default of any parameter but the first, which follows a bracket and not a space."""
    parsed = _parse(documented)
    if parsed is None:
        return None
    names = [name for name in parsed.defaults if name != parsed.names[0]]
    if not names:
        return None
    name = asker.choose(names, documented.id, "default name")
    phrasing = asker.choose(
        (
            "What is the default of {name} in this signature?",
            "Which value does {name} have when it is not given?",
            "Give the default value of {name} here.",
        ),
        documented.id,
        "default",
    )
    prompt = f"{phrasing.format(name=name)}\n{documented.name}{parsed.call}"
    return prompt, f"The default is {name}={parsed.defaults[name]}"


def _type(asker: Asker, documented: Documented) -> Question:
    """The type of one of a few neighbouring parameters, as the docstring gives it."""
    entries = documented_types(documented.doc)
    if not entries:
        return None
    place = asker.choose(range(len(entries)), documented.id, "type name")
    name, type_, _ = entries[place]
    phrasing = asker.choose(
        (
            "What is the type of the parameter on the last line?",
            "Of which type is the parameter on the last line?",
            "Give the type of the last line's parameter.",
        ),
        documented.id,
        "type",
    )
    room = asker.max_prompt_characters - len(phrasing) - len(name) - 2
    excerpt = _window([_shown(entry) for entry in entries], place, room)
    return f"{phrasing}\n{excerpt}\n{name}", f"The type is {type_}"


def _summary(asker: Asker, documented: Documented) -> Question:
    """The first line of a docstring that says more than that."""
    first, blank, rest = documented.doc.partition("\n\n")
    fits = MIN_SUMMARY_CHARACTERS <= len(first) <= MAX_SUMMARY_CHARACTERS
    if not blank or "\n" in first or not first.endswith(".") or not fits:
        return None
    phrasing = asker.choose(
        (
            "Summarise this documentation by its first line.",
            "What is the first line of this documentation?",
            "Say in one line what this describes, as its first line does.",
        ),
        documented.id,
        "summary",
    )
    room = asker.max_prompt_characters - len(phrasing) - len(first) - 3
    shown = _first_lines(rest, room)
    return (f"{phrasing}\n{first}\n\n{shown}", first) if shown else None


QUESTIONS: dict[str, Callable[[Asker, Documented], Question]] = {
    "import": _import,
    "parameters": _parameters,
    "default": _default,
    "type": _type,
    "summary": _summary,
}


@dataclass(frozen=True)
class Signature:
    """A signature as a caller sees it."""

    call: str  # `(x, axis=0)`: without self
    names: list[str]  # with the stars of *args and **kwargs
    defaults: dict[str, str]  # source text by name


def _parse(documented: Documented) -> Signature | None:
    """The object's signature; None when it has none."""
    if not documented.signature:
        return None
    function = ast.parse(f"def f{documented.signature}: pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    skip = 1 if positional and positional[0].arg in ("self", "cls") else 0
    names = [argument.arg for argument in positional]
    defaults = dict(
        zip(reversed(names), map(ast.unparse, reversed(arguments.defaults)), strict=False)
    )
    for argument, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if value is not None:
            defaults[argument.arg] = ast.unparse(value)
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    names += [argument.arg for argument in arguments.kwonlyargs]
    names += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    call = re.sub(r"^\(\w+(, /)?(, )?", "(", documented.signature) if skip else documented.signature
    ordered = {name: defaults[name] for name in names if name in defaults}
    return Signature(call, names[skip:], ordered)


Entry = tuple[str, str, str]  # name, type, first line of the description


def documented_types(doc: str) -> list[Entry]:
    """The parameters with a short type in a numpydoc or Google style docstring, in order."""
    found = _entries(doc, NUMPY_SECTION, NUMPY_ENTRY) or _entries(doc, GOOGLE_SECTION, GOOGLE_ENTRY)
    names = [name for name, _, _ in found]
    return [
        entry
        for entry in found
        if names.count(entry[0]) == 1
        and len(entry[1]) <= MAX_TYPE_CHARACTERS
        and not entry[1].endswith((",", "{", "(", "["))  # goes on in the next line
    ]


def _entries(doc: str, section: re.Pattern[str], entry: re.Pattern[str]) -> list[Entry]:
    match = section.search(doc)
    if match is None:
        return []
    return [
        (name, " ".join(type_.split()), (description or "").strip())
        for name, type_, description in entry.findall(match[1])
    ]


def _shown(entry: Entry) -> str:
    name, type_, description = entry
    return f"{name} : {type_}" + (f"\n    {description}" if description else "")


def _window(parts: list[str], place: int, room: int) -> str:
    """The part at `place` and as many neighbours, nearest first, as fit; the first even if not."""
    start = end = place
    while True:
        wider = [
            (s, e) for s, e in ((start - 1, end), (start, end + 1)) if s >= 0 and e < len(parts)
        ]
        fitting = [(s, e) for s, e in wider if len("\n".join(parts[s : e + 1])) <= room]
        if not fitting:
            return "\n".join(parts[start : end + 1])
        start, end = fitting[-1] if (place - start) > (end - place) else fitting[0]


def _first_lines(text: str, room: int) -> str:
    """Whole lines from the beginning that fit into `room` characters."""
    lines: list[str] = []
    for line in text.split("\n"):
        room -= len(line) + 1
        if room < 0:
            break
        lines.append(line)
    return "\n".join(lines).strip("\n")


def select(
    conversations: Iterable[Conversation], per_kind: int, asker: Asker, taken: Iterable[str] = ()
) -> list[Conversation]:
    """At most `per_kind` of each kind, sampled and shuffled by hash; no prompt twice or `taken`."""
    prompts = set(taken)
    counts: dict[str, int] = {}
    chosen = []
    for conversation in sorted(conversations, key=lambda c: asker.rank(c.id)):
        prompt = conversation.prompt[0]["content"]
        if prompt in prompts or counts.get(conversation.kind, 0) >= per_kind:
            continue
        prompts.add(prompt)
        counts[conversation.kind] = counts.get(conversation.kind, 0) + 1
        chosen.append(conversation)
    return chosen
