"""Masks for personal data and secrets: what matches a pattern and its check becomes `<KIND>`.

A column is searched as a whole for what may match; only those texts are looked at one by one.
Repetitions in the patterns are bounded, so that no text takes more than linear time.
"""

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from llm.config.filter import MaskConfig
from llm.corpus.columns import text_column
from llm.corpus.documents import dump_meta


def _is_reachable(address: str) -> bool:
    """Not an address of example domains (RFC 2606), which belong to nobody."""
    domain = address.rpartition("@")[2].lower()
    reserved = ("example", "test", "invalid", "localhost")
    return not re.search(r"(^|\.)example\.(com|net|org|edu)$", domain) and not domain.endswith(
        tuple(f".{name}" for name in reserved)
    )


def _is_public(address: str) -> bool:
    """A host's on the internet; four numbers of one digit, or nearly, number a section or version."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if found.version == 6:
        return found.is_global and found in GLOBAL_UNICAST
    return (
        found.is_global
        and not found.is_multicast
        and sum(len(part) > 1 for part in address.split(".")) >= 2
    )


def _is_dialled(number: str) -> bool:
    """Of E.164's length, and not one digit over and over."""
    digits = re.sub(r"\D", "", number)
    return 8 <= len(digits) <= 15 and len(set(digits)) > 2


def is_card(number: str) -> bool:
    """An issuer's prefix and length (ISO/IEC 7812), and Luhn's check digit."""
    digits = re.sub(r"\D", "", number)
    return ISSUERS.fullmatch(digits) is not None and luhn(digits)


def luhn(digits: str) -> bool:
    """Whether the last digit checks the others: every second digit from the right doubled."""
    doubled = [int(digit) * 2 for digit in digits[-2::-2]]
    total = sum(map(int, digits[-1::-2])) + sum(value // 10 + value % 10 for value in doubled)
    return total % 10 == 0


GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # RFC 4291
ISSUERS = re.compile(
    r"4\d{12}(?:\d{3}){0,2}"  # Visa
    r"|(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:6011|65\d{2}|64[4-9]\d)\d{12}"  # Discover
    r"|3(?:0[0-5]|[68]\d)\d{11}"  # Diners Club
    r"|(?:35(?:2[89]|[3-8]\d))\d{12}"  # JCB
    r"|62\d{14,17}"  # UnionPay
)


@dataclass(frozen=True)
class Kind:
    """One kind of what is masked."""

    name: str  # of its switch in params.yaml
    hint: str  # RE2: matches every text that the pattern may match in, and is quick
    pattern: re.Pattern[str]
    check: Callable[[str], bool] = lambda match: True

    def mask(self, text: str) -> tuple[str, int]:
        """The text with each match as the kind's name in angle brackets, and how many there were."""
        masked = 0

        def replace(match: re.Match[str]) -> str:
            nonlocal masked
            if not self.check(match.group()):
                return match.group()
            masked += 1
            return f"<{self.name.upper()}>"

        return self.pattern.sub(replace, text), masked


KINDS = (  # in this order: keys may hold digits, e-mail addresses may hold IP addresses
    Kind(
        "key",
        r"A[KS]IA[0-9A-Z]{16}|gh[pousr]_[0-9A-Za-z]{36}|github_pat_|glpat-|hf_[0-9A-Za-z]{34}|xox[abprs]-"
        r"|AIza[0-9A-Za-z_-]{35}|sk-[0-9A-Za-z_-]{20}|[rs]k_live_|eyJ[0-9A-Za-z_-]{10}|PRIVATE KEY-----",
        re.compile(
            r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----.{0,8000}?-----END (?:[A-Z0-9]+ )*PRIVATE KEY-----"
            r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # Amazon
            r"|\b(?:gh[pousr]_[0-9A-Za-z]{36,255}|github_pat_[0-9A-Za-z_]{22,255})"
            r"|\bglpat-[0-9A-Za-z_-]{20,255}"
            r"|\bhf_[0-9A-Za-z]{34,255}"
            r"|\bxox[abprs]-[0-9A-Za-z-]{10,255}"  # Slack
            r"|\bAIza[0-9A-Za-z_-]{35}"  # Google
            r"|\bsk-(?=[A-Za-z_-]{0,40}\d)[0-9A-Za-z_-]{20,255}"  # OpenAI, Anthropic
            r"|\b[rs]k_live_[0-9A-Za-z]{16,255}"  # Stripe
            r"|\beyJ[0-9A-Za-z_-]{10,500}\.eyJ[0-9A-Za-z_-]{10,4000}\.[0-9A-Za-z_-]{10,1000}",  # JSON web token
            re.DOTALL,
        ),
    ),
    Kind(
        "email",
        r"\S@[A-Za-z0-9][A-Za-z0-9.-]*\.[A-Za-z]{2}",
        re.compile(
            r"(?<![\w.+%/-])[\w.+%-]*\w@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}"
            r"(?![\w(]|\.\w)"
        ),
        _is_reachable,
    ),
    Kind(
        "card",
        r"\d(?:[ -]?\d){12}",
        re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-]|\.\d)"),
        is_card,
    ),
    Kind(
        "ip",
        r"(?:\d{1,3}\.){3}\d|[23][0-9A-Fa-f]{3}:[0-9A-Fa-f]{0,4}:",
        re.compile(
            r"(?<![\w.:])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)"
            r"|(?<![\w:.])[23][0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){2,7}(?<!:)(?!\w)"
        ),
        _is_public,
    ),
    Kind(
        "phone",
        r"\+[1-9]\d{0,2}[ .-]?\(?\d{1,4}\)?[ .-]\d{2}|[2-9]\d{2}(?:\) ?|[.-])[2-9]\d{2}[.-]\d{4}",
        re.compile(
            r"(?<![\w.+*/-])\+[1-9]\d{0,2}(?:[ .-]?\(\d{1,4}\)|[ -]\d{1,4}|\.\d{2,4})"
            r"(?:[ .-]\d{2,8}){1,4}(?![\w-]|\.\d)"
            r"|(?<![\w.+-])(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[.-])[2-9]\d{2}[.-]\d{4}(?![\w-]|\.\d)"
        ),
        _is_dialled,
    ),
)


def mask(documents: pa.Table, config: MaskConfig) -> tuple[pa.Table, Counter[str]]:
    """The documents with text and `meta` masked, and how much of each kind the texts held."""
    kinds = [kind for kind in KINDS if getattr(config, kind.name)]
    counts = Counter[str](dict.fromkeys((kind.name for kind in kinds), 0))
    if not kinds or not documents.num_rows:
        return documents, counts
    for name, change in (("text", _mask_text), ("meta", _mask_meta)):
        hits = _hits(documents[name], kinds)
        if hits:
            values = documents[name].to_pylist()
            for row, found in hits.items():
                values[row] = change(values[row], found, counts)
            at = documents.column_names.index(name)
            documents = documents.set_column(at, name, text_column(values))
    return documents, counts


def _hits(column: pa.ChunkedArray, kinds: list[Kind]) -> dict[int, list[Kind]]:
    """By row, the kinds that its text may hold."""
    hits: dict[int, list[Kind]] = {}
    for kind in kinds:
        options = pc.MatchSubstringOptions(kind.hint)
        matches = pc.call_function("match_substring_regex", [column], options)
        for row in pc.call_function("indices_nonzero", [matches]).to_pylist():
            hits.setdefault(row, []).append(kind)
    return hits


def _mask_text(text: str, kinds: list[Kind], counts: Counter[str]) -> str:
    for kind in kinds:
        text, masked = kind.mask(text)
        counts[kind.name] += masked
    return text


def _mask_meta(meta: str, kinds: list[Kind], counts: Counter[str]) -> str:
    """Each text in a JSON object masked; it repeats the document's text, so nothing is counted."""
    values = json.loads(meta)
    for key, value in values.items():
        if isinstance(value, str):
            values[key] = _mask_text(value, kinds, Counter())
    return dump_meta(values)
