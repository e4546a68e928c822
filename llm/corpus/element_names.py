"""What an element is for, as its tag, classes, id, role and microdata call it.

`apart` is text that is never the page's, however long: comments, links to other pages,
newsletters. `around` mostly is not, `about` is of the author or date, `caption` of a picture,
`content` is main text. The words are those of the web's templates, which are in English
whatever the text's language is.
"""

import re
from functools import lru_cache

CONTENT = frozenset(("content",))
NAME_CHARACTERS = 200  # of an element's classes and id: more are a program's, not a person's
WORDS = re.compile(r"[A-Z]?[a-z]+")
MEANINGS = {
    "apart": """
        comment comments commentlist commentform respond reply replies disqus
        related relatedposts recommended recommendations outbrain taboola
        newsletter newsletters subscribe subscription subscriptions subscriber signup optin
    """,
    "around": """
        foot footer colophon copyright copyrights disclaimer imprint impressum license privacy
        recent popular trending teasers promo promos
        widget widgets sidebar secondary supplement aside complementary rail
        donate donation cta login signin register registration paywall contact form forms
        share sharing sharedaddy social socials shariff addthis like likes follow whatsapp
        facebook print
        nav navi navbar navigation menu submenu breadcrumb breadcrumbs pager pagination paging
        toolbar prev previous next sitemap search masthead banner topbar links link linklist tabs
        cookie cookies consent gdpr popup modal overlay notice alert dialog noprint nocontent
        ad ads advert advertisement advertising sponsor sponsored affiliate adsense adv
    """,
    "about": """
        author authors bio byline vcard avatar signature profile meta date posted timestamp
        published info infos postmeta metadata categories taglist tagcloud
    """,
    "caption": "caption captions credit credits figure figcaption gallery embed embedded image",
    "content": """
        articlebody bodytext richtext rte paragraph paragraphs lead intro introduction
        ingredient ingredients instruction instructions preparation recipe abstract summary
        hentry introtext postbody postcontent textblock steps
    """,
}
MEANING_OF_WORD = {word: name for name, words in MEANINGS.items() for word in words.split()}
MEANING_OF_TAG = {
    **dict.fromkeys(("nav", "footer", "aside", "noscript"), "apart"),
    **dict.fromkeys(("form", "menu"), "around"),
    **dict.fromkeys(("figure", "figcaption"), "caption"),
    **dict.fromkeys(("article", "main"), "content"),
    "address": "about",
}
ROLES_AROUND = """
    navigation contentinfo complementary banner search dialog alertdialog menu menubar
"""
MEANING_OF_ROLE = {
    **dict.fromkeys(ROLES_AROUND.split(), "around"),
    **dict.fromkeys(("main", "article"), "content"),
}
CONTENT_PROPERTIES = {  # schema.org's, in microdata
    "articleBody", "text", "description", "recipeInstructions", "recipeIngredient",
}  # fmt: skip
# One of each makes main text: entry-content, articleBody, post_text
PIECES = frozenset(("article", "entry", "post", "story", "page", "blog", "main"))
CONTENTS = frozenset(("body", "content", "text"))


@lru_cache(1 << 14)
def names_of(
    tag: str, classes: str | None, id_: str | None, role: str | None, itemprop: str | None
) -> frozenset[str]:
    """Which of MEANINGS hold for an element by itself."""
    if tag in ("html", "body"):
        return frozenset()
    names = f"{classes or ''} {id_ or ''}"[:NAME_CHARACTERS]
    words = [word.lower() for word in WORDS.findall(names)]
    found = {MEANING_OF_WORD[word] for word in words if word in MEANING_OF_WORD}
    if tag in MEANING_OF_TAG:
        found.add(MEANING_OF_TAG[tag])
    if role in MEANING_OF_ROLE:
        found.add(MEANING_OF_ROLE[role])
    if itemprop in CONTENT_PROPERTIES or not (
        PIECES.isdisjoint(words) or CONTENTS.isdisjoint(words)
    ):
        found.add("content")
    return frozenset(found)
