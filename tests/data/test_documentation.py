"""Questions about documentation: their answers stand in the prompt and follow from it."""

import keyword

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.corpus.documents import dump_meta
from llm.data.conversations import CHECKABLE_KINDS, Conversation
from llm.data.documentation import (
    QUESTIONS,
    Asker,
    Documented,
    documented_types,
    read_documented,
    select,
)

ASKER = Asker(seed=1, max_prompt_characters=300)
NUMPY_DOC = """Join values along an axis.

Longer words about it.

Parameters
----------
values : list of str
    What is joined.
axis : int, optional
    Along which axis.
a, b : float
    Two at once, which no question names.
out : {'C', 'F',
    'A'}
    Type on two lines.

Returns
-------
joined : str
    The result.
"""
GOOGLE_DOC = """Join values.

Args:
    values (list[str]): What is joined.
    axis (int, optional): Along which axis.

Returns:
    joined (str): The result.
"""
IDENTIFIER = st.from_regex(r"\A[a-z_]{1,8}\Z").filter(
    lambda name: not keyword.iskeyword(name) and name not in ("self", "cls")
)


def documented(**changes: str) -> Documented:
    values = {
        "id": "d1",
        "url": "python:pack.tools#Joiner.join",
        "kind": "method",
        "module": "pack.tools",
        "qualname": "Joiner.join",
        "signature": "(self, values, axis=0, *args, sep=', ', **kwargs)",
        "doc": NUMPY_DOC.strip(),
    }
    return Documented(**(values | changes))


def asked(question: str, **changes: str) -> tuple[str, str]:
    conversation = ASKER.ask(question, documented(**changes))
    assert conversation is not None
    return conversation.messages[0]["content"], conversation.reference


def test_every_kind_of_question_can_be_checked():
    assert set(QUESTIONS) == CHECKABLE_KINDS


def test_the_import_of_a_public_name():
    prompt, answer = asked("import", kind="class", qualname="Joiner")
    assert answer == "from pack.tools import Joiner"
    assert " Joiner" in prompt
    assert " pack.tools" in prompt


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "method"},
        {"kind": "module", "qualname": ""},
        {"kind": "class", "qualname": "Joiner.Inner"},
        {"kind": "class", "qualname": "Joiner", "module": "pack._tools"},
        {"kind": "function", "qualname": "__getattr__"},
    ],
)
def test_nothing_is_imported_from_private_places(changes: dict[str, str]):
    assert ASKER.ask("import", documented(**changes)) is None


def test_parameters_are_the_names_a_caller_gives():
    prompt, answer = asked("parameters")
    assert prompt.endswith("\njoin(values, axis=0, *args, sep=', ', **kwargs)")
    assert answer == "(values, axis, *args, sep, **kwargs)"


@pytest.mark.parametrize(
    ("signature", "call", "answer"),
    [
        ("(self, /, a, b)", "(a, b)", "(a, b)"),
        ("(cls, a, /, b)", "(a, /, b)", "(a, b)"),
        ("(a, *, b=1)", "(a, *, b=1)", "(a, b)"),
        ("(self_, b)", "(self_, b)", "(self_, b)"),
    ],
)
def test_self_and_markers_are_no_parameters(signature: str, call: str, answer: str):
    prompt, given_answer = asked("parameters", signature=signature)
    assert (prompt.split("\n")[1], given_answer) == (f"join{call}", answer)


@pytest.mark.parametrize("signature", ["", "()", "(self)", "(self, a)", "(self, *, a, b)"])
def test_signatures_without_a_choice_are_not_asked_about(signature: str):
    assert ASKER.ask("parameters", documented(signature=signature)) is None


@settings(max_examples=40)
@given(names=st.lists(IDENTIFIER, min_size=2, max_size=5, unique=True), data=st.data())
def test_a_default_is_the_one_in_the_signature(names: list[str], data: st.DataObject):
    values = [data.draw(st.sampled_from(["None", "1", "'a, b'", "(0, 1)"])) for _ in names]
    signature = "(" + ", ".join(f"{n}={v}" for n, v in zip(names, values, strict=True)) + ")"
    prompt, answer = asked("default", signature=signature, id=signature)
    name, value = answer.removeprefix("The default is ").split("=", 1)
    assert dict(zip(names, values, strict=True))[name] == value
    assert f" {name} " in prompt.split("\n")[0]
    assert f" {answer.split(' is ', 1)[1]}" in prompt.split("\n")[1]


def test_types_are_read_from_both_styles():
    numpy_types = [
        ("values", "list of str", "What is joined."),
        ("axis", "int, optional", "Along which axis."),
    ]
    assert documented_types(NUMPY_DOC) == numpy_types
    google_types = [
        ("values", "list[str]", "What is joined."),
        ("axis", "int, optional", "Along which axis."),
    ]
    assert documented_types(GOOGLE_DOC) == google_types


@pytest.mark.parametrize("doc", [NUMPY_DOC, GOOGLE_DOC])
def test_the_type_asked_for_stands_in_the_excerpt(doc: str):
    answers = set()
    for number in range(8):
        prompt, answer = asked("type", doc=doc, id=str(number))
        name = prompt.split("\n")[-1]
        type_ = answer.removeprefix("The type is ")
        assert f"\n{name} : {type_}\n" in prompt
        answers.add(name)
    assert answers == {"values", "axis"}


def test_the_summary_is_the_first_line_and_not_all_of_the_prompt():
    prompt, answer = asked("summary")
    assert answer == "Join values along an axis."
    assert f"\n{answer}\n\nLonger words" in prompt
    assert len(prompt) <= 300
    for doc in (
        "One line that says all there is.",
        "No full stop\n\nMore.",
        "Two\nlines.\n\nMore.",
    ):
        assert ASKER.ask("summary", documented(doc=doc)) is None


def test_no_prompt_is_longer_than_allowed():
    brief = Asker(seed=1, max_prompt_characters=60)
    for kind in QUESTIONS:
        conversation = brief.ask(kind, documented())
        assert conversation is None or len(conversation.messages[0]["content"]) <= 60


def test_a_document_that_is_no_docstring_is_not_asked_about():
    row = {"id": "1", "url": "file:a.txt", "meta": dump_meta({"file": "a.txt"})}
    assert read_documented(row) is None


def chat(number: int, kind: str, prompt: str) -> Conversation:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": "a"}]
    return Conversation(str(number), kind, "s", turns)


def test_selection_is_balanced_free_of_repetition_and_depends_on_the_seed_alone():
    given_ = [chat(n, "ab"[n % 2], f"p{n % 30}") for n in range(80)]
    chosen = select(given_, 10, ASKER, taken=["p1"])
    assert [c.kind for c in chosen].count("a") == [c.kind for c in chosen].count("b") == 10
    prompts = [c.prompt[0]["content"] for c in chosen]
    assert len(set(prompts)) == 20
    assert "p1" not in prompts
    assert select(reversed(given_), 10, ASKER, taken=["p1"]) == chosen
    assert select(given_, 10, Asker(2, 300), taken=["p1"]) != chosen
