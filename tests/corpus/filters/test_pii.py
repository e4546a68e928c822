"""Masks: what is personal or secret goes, what only looks like it stays."""

import json
import time

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.config.filter import MaskConfig
from llm.corpus.documents import dump_meta
from llm.corpus.filters.pii import KINDS, is_card, luhn, mask

ALL = MaskConfig(email=True, phone=True, ip=True, card=True, key=True)
SECRET = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"  # of no service


def masked(text: str, config: MaskConfig = ALL) -> tuple[str, dict[str, int]]:
    table = pa.table({"id": ["1"], "text": [text], "meta": ["{}"]})
    documents, counts = mask(table, config)
    return documents["text"].to_pylist()[0], {kind: n for kind, n in counts.items() if n}


@pytest.mark.parametrize(
    ("text", "expected", "kind"),
    [
        ("Write to jo.doe+x@mail.uni-a.de.", "Write to <EMAIL>.", "email"),
        ("<a_b@c.co.uk>,", "<<EMAIL>>,", "email"),
        ("Jürgen <jürgen@mail.de>", "Jürgen <<EMAIL>>", "email"),
        ("call +49 30 901820 now", "call <PHONE> now", "phone"),
        ("call +1 (415) 555-2671.", "call <PHONE>.", "phone"),
        ("(415) 555-2671 or 415-555-2672", "<PHONE> or <PHONE>", "phone"),
        ("1-800-555-0199", "<PHONE>", "phone"),
        ("tel +442079460958?", "tel +442079460958?", ""),  # no separators: a number like any other
        ("host 93.184.216.34:80", "host <IP>:80", "ip"),
        ("from 93.184.216.34, port", "from <IP>, port", "ip"),
        ("at 2606:2800:220:1:248:1893:25c8:1946 it", "at <IP> it", "ip"),
        ("at 2a00:1450:4001:81b::200e.", "at <IP>.", "ip"),
        ("card 4111 1111 1111 1111 ok", "card <CARD> ok", "card"),
        ("378282246310005", "<CARD>", "card"),
        ("5555-5555-5555-4444", "<CARD>", "card"),
        ("id = AKIA" + "ABCDEFGH12345678", "id = <KEY>", "key"),
        (f"token: ghp_{SECRET}", "token: <KEY>", "key"),
        (f'key="sk-{SECRET}"', 'key="<KEY>"', "key"),
        ("eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF", "<KEY>", "key"),
        (
            "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nb",
            "a\n<KEY>\nb",
            "key",
        ),
    ],
)
def test_each_kind_is_masked(text: str, expected: str, kind: str) -> None:
    result, counts = masked(text)
    assert result == expected
    assert set(counts) == ({kind} if kind else set())
    assert masked(result) == (result, {})


@pytest.mark.parametrize(
    "text",
    [
        "jane@example.com, x@mail.example.org, y@host.test and z@localhost",
        "decorated by @app.route, multiplied as A@B.T and X@Y.conj()",
        "127.0.0.1, 10.1.2.3, 192.168.1.1, 169.254.10.20 and 203.0.113.77 are nobody's",
        "section 7.4.3.3, version 1.26.4.2 and 0.0.0.0",
        "::1, fe80::1234:5678, 2001:db8::8a2e:370:7334 and ffff:ffff:ffff::",
        "at 12:30:45 on 2018-01-01 2018-01-02",
        "4111 1111 1111 1112 fails its check digit, 1234567812345670 has no issuer",
        "0-0 1-9 2-9 3-10 4-11 5-12 6-6 7-5",
        "array([+1.5, +2.5]) x**2 +10 and 1e+10, 123.456.789",
        "978-0-387-84858-7 is a book",
        "sk-learn-contrib-is-a-group-of-packages and task-1234567890123456789012",
        "ghp_short, AKIA and eyJ",
    ],
)
def test_what_is_nobodys_stays(text: str) -> None:
    assert masked(text) == (text, {})


def test_a_kind_that_is_off_is_left_alone() -> None:
    text = f"a@b.net ghp_{SECRET}"
    assert masked(text, ALL.model_copy(update={"email": False})) == ("a@b.net <KEY>", {"key": 1})
    off = MaskConfig(**dict.fromkeys(("email", "phone", "ip", "card", "key"), False))
    assert masked(text, off) == (text, {})


def test_the_texts_in_meta_are_masked_but_not_counted_and_stay_json() -> None:
    meta = dump_meta({"doc": "See\nme@mail.net \\n", "line": 3, "module": "a.b"})
    table = pa.table({"id": ["1"], "text": ["See\nme@mail.net"], "meta": [meta]})
    documents, counts = mask(table, ALL)
    assert counts["email"] == 1
    assert json.loads(documents["meta"].to_pylist()[0]) == {
        "doc": "See\n<EMAIL> \\n",
        "line": 3,
        "module": "a.b",
    }


def test_counts_add_up_over_documents_in_order() -> None:
    texts = [f"a{n}@b.net" if n % 3 else "nobody" for n in range(3000)]
    table = pa.table({"id": texts, "text": texts, "meta": ["{}"] * 3000})
    documents, counts = mask(table, ALL)
    assert documents["text"].to_pylist() == ["<EMAIL>" if n % 3 else "nobody" for n in range(3000)]
    assert counts == {"email": 2000, "phone": 0, "ip": 0, "card": 0, "key": 0}


@given(st.text(alphabet="0123456789", min_size=1, max_size=18))
def test_luhn_accepts_one_check_digit_of_ten_and_no_single_wrong_digit(digits: str) -> None:
    (right,) = [digits + check for check in "0123456789" if luhn(digits + check)]
    for at in range(len(right)):
        other = right[:at] + str((int(right[at]) + 1) % 10) + right[at + 1 :]
        assert not luhn(other)


def test_card_lengths_follow_the_issuer() -> None:
    assert is_card("4222222222222")
    assert not is_card("55555555555544440")


@given(st.text(alphabet="0123456789 .-+()@:abcdefAKI_sk", max_size=60))
def test_the_hint_never_hides_a_match(text: str) -> None:
    assert masked(text)[0] == _without_hints(text)


def _without_hints(text: str) -> str:
    for kind in KINDS:
        text, _ = kind.mask(text)
    return text


@pytest.mark.parametrize(
    "part", ["sk-", "-eyJ", "a.", "a@", "1 ", "+1 ", "1.", "2a00:", "-----BEGIN "]
)
def test_time_grows_no_faster_than_the_text(part: str) -> None:
    """A text that a pattern nearly matches everywhere; ten times quadratic time would be minutes."""
    text = part * (600_000 // len(part))
    started = time.process_time()
    for kind in KINDS:
        kind.mask(text)
    assert time.process_time() - started < 20
