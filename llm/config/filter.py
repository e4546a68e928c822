"""Section filter: the quality rules' limits, line cleaning and masks.

Null (or false) switches a rule off. A rule is named by its key: `gopher.min_words`.
"""

from typing import Annotated, Self

from pydantic import Field, PositiveInt, model_validator

from llm.config.base import Section

Frac = Annotated[float, Field(ge=0, le=1)]
Limit = Annotated[float, Field(gt=0)]


class GopherConfig(Section):
    """Gopher's quality rules (Rae et al. 2021, section A1.1); words are parted by white space."""

    min_words: PositiveInt | None
    """Gopher: 50."""
    max_words: PositiveInt | None
    """Gopher: 100,000."""
    min_mean_word_length: Limit | None
    """Characters; Gopher: 3."""
    max_mean_word_length: Limit | None
    """Characters; Gopher: 10."""
    max_hashes_per_word: Limit | None
    """Number signs; Gopher: 0.1."""
    max_ellipses_per_word: Limit | None
    """Three full stops or one character; Gopher: 0.1."""
    max_bullet_line_frac: Frac | None
    """Lines that begin with a bullet point; Gopher: 0.9."""
    max_ellipsis_line_frac: Frac | None
    """Lines that end in an ellipsis; Gopher: 0.3."""
    min_alphabetic_word_frac: Frac | None
    """Words with at least one letter; Gopher: 0.8."""
    min_stop_words: PositiveInt | None
    """Different ones of `stop_words`; Gopher: 2."""
    stop_words: list[str]
    """Gopher: the, be, to, of, and, that, have, with."""

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for low, high in (
            ("min_words", "max_words"),
            ("min_mean_word_length", "max_mean_word_length"),
        ):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise ValueError(f"{low}={least} must not exceed {high}={most}")
        if self.min_stop_words and self.min_stop_words > len(set(self.stop_words)):
            raise ValueError(
                f"min_stop_words={self.min_stop_words} can't be reached with "
                f"{len(set(self.stop_words))} stop_words"
            )
        return self


class RepetitionConfig(Section):
    """Gopher's repetition rules (Rae et al. 2021, table A1), as fractions.

    Duplicates are what occurred before in the same text; the first occurrence is none.
    """

    max_dup_line_frac: Frac | None
    """Of lines; Gopher: 0.30."""
    max_dup_paragraph_frac: Frac | None
    """Of paragraphs; Gopher: 0.30."""
    max_dup_line_char_frac: Frac | None
    """Of characters; Gopher: 0.20."""
    max_dup_paragraph_char_frac: Frac | None
    """Of characters; Gopher: 0.20."""
    max_top_2gram_char_frac: Frac | None
    """Characters in the most frequent pair of words; Gopher: 0.20."""
    max_top_3gram_char_frac: Frac | None
    """Gopher: 0.18."""
    max_top_4gram_char_frac: Frac | None
    """Gopher: 0.16."""
    max_dup_5gram_char_frac: Frac | None
    """Characters in sequences of five words seen before; Gopher: 0.15."""
    max_dup_6gram_char_frac: Frac | None
    """Gopher: 0.14."""
    max_dup_7gram_char_frac: Frac | None
    """Gopher: 0.13."""
    max_dup_8gram_char_frac: Frac | None
    """Gopher: 0.12."""
    max_dup_9gram_char_frac: Frac | None
    """Gopher: 0.11."""
    max_dup_10gram_char_frac: Frac | None
    """Gopher: 0.10."""


class C4LinesConfig(Section):
    """C4's rules for lines (Raffel et al. 2020, section 2.2): lines that fail one are cut out."""

    terminal_punctuation: bool
    """Keep only lines that end in . ! ? " or ', and not in an ellipsis."""
    min_words: PositiveInt | None
    """C4's code: 3 (its paper: 5)."""
    max_word_characters: Annotated[int, Field(gt=0, le=1000)] | None
    """No word may be longer; C4's code: 1,000."""
    no_javascript: bool
    """Cut lines that name Javascript."""
    no_policies: bool
    """Cut lines about terms of use, privacy policies and cookies."""
    no_citation_marks: bool
    """Cut Wikipedia's marks, such as [1] and [citation needed], out of lines."""


class C4Config(Section):
    """C4's rules (Raffel et al. 2020, section 2.2)."""

    lines: C4LinesConfig
    """Come first: all rules judge the lines that are left."""
    no_lorem_ipsum: bool
    """Drop texts that hold "lorem ipsum"."""
    no_curly_bracket: bool
    """Drop texts that hold a {, which C4 takes for code."""
    min_sentences: PositiveInt | None
    """C4's code: 5 (its paper: 3)."""


class FineWebConfig(Section):
    """FineWeb's own rules (Penedo et al. 2024, section 3.6)."""

    min_punctuated_line_frac: Frac | None
    """Lines that end a sentence; FineWeb: 0.12."""
    max_short_line_frac: Frac | None
    """Lines of 30 characters or less; FineWeb: 0.67."""
    max_dup_line_char_frac: Frac | None
    """Characters in lines seen before; FineWeb: 0.01 (its paper: 0.1)."""
    max_line_feeds_per_word: Limit | None
    """FineWeb: 0.3."""


class MaskConfig(Section):
    """Personal data that is masked in what is kept: `a@b.net` becomes `<EMAIL>`."""

    email: bool
    """E-mail addresses, but for those of example domains (RFC 2606)."""
    phone: bool
    """Telephone numbers with a country code, or in North America's form."""
    ip: bool
    """Public IPv4 and IPv6 addresses, but for what may as well be a version number (8.8.8.8)."""
    card: bool
    """Numbers of payment cards: an issuer's prefix and length, and a right check digit (Luhn)."""
    key: bool
    """Private keys, JSON web tokens, and access keys of the forms that large services give them."""


class FilterConfig(Section):
    """Which documents are kept, and what is masked in them."""

    url_blocklist: str | None
    """A file; a line is a domain, subdomains included, or, with a slash, a part of a URL."""
    languages: Annotated[list[str], Field(min_length=1)] | None
    """ISO 639-1 codes to keep."""
    min_language_score: Frac | None
    """Of language identification; FineWeb: 0.65, of another classifier."""
    max_symbol_frac: Frac | None
    """Characters but letters, digits, marks, white space and .,;:'"()"""
    max_digit_frac: Frac | None
    """Characters that are digits."""
    gopher: GopherConfig
    """Quality."""
    repetition: RepetitionConfig
    """Within a text."""
    c4: C4Config
    """Sentences, and lines to cut."""
    fineweb: FineWebConfig
    """Lists and fragments."""
    bad_words: str | None
    """A file; a line is a word or phrase that no text may hold, in small or capital letters."""
    mask: MaskConfig
    """Of what is kept."""
