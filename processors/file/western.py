"""is_western: whether the bytes of a word make sense in Windows' Latin. Text of another encoding that is read as cp1252
has letters and signs where no Western language has them: `SŠge`, `£o¿ysko`, `Ïðèâåò`.
"""

from __future__ import annotations

import re
from typing import Final

# Letters with marks, by language: those of one word must be of one of them. Not here: Icelandic and Turkish, whose
# words cannot be known from those of the same bytes in cp1250 and cp1254, and S, Z, Y with marks, which are also
# Macintosh'.
_ALPHABETS: Final = tuple(
    frozenset(letters + letters.upper())
    for letters in (
        "àâçèéêëîïôœùûüæ", "äöüßéàè", "áéíóúñü", "áâãàçéêíóôõú", "àèéìòùî", "åäöéüà", "æøåéöäóèô", "ëïéöüáíóú",
    )
)  # fmt: skip
_LETTERS: Final = frozenset().union(*_ALPHABETS)
# Where single letters stand in the languages that have them: elsewhere they are another encoding's.
_PLACES: Final = tuple(
    (letter, re.compile(pattern, re.IGNORECASE))
    for letter, pattern in (
        ("ñ", r"ñ[aeiouáéíóú]"), ("œ", r"œ[uinsdt]"), ("õ", r"õe"), ("ã", r"ã(?:[oe]|s?$|s?[^a-zà-ÿ])"),
        ("ù", r"ù(?:$|[^a-zà-ÿ])"), ("ò", r"ò(?:$|[^a-zà-ÿ])"), ("ì", r"ì(?:$|[^a-zà-ÿ])"),
        ("à", r"à(?:s?$|s?[^a-zà-ÿ])"), ("ç", r"ç[aouâôûàéãõáó]"),
        ("è", r"è(?:[^aeiouyà-ÿ\W_]{1,3}u?e|[sz]$|[sz][^a-zà-ÿ]|$|[^a-zà-ÿ])"),
        ("û", r"(?:s|m|d|fl?|aff|cr)û[rtlm]?|br?û[lc]|[oe]û|piqû|jeû|lû|[mr]û"), ("ê", r"ê[tmlcvnrspfgb]|[êê](?:s?$)"),
        ("ë", r"[aeoui]ë|ë[rlnst]"), ("â", r"â[tcmnlpsrgfvbdi]|â$"), ("î", r"î[tnlmcr]"), ("ô", r"ô[tlnmpcrsdbhv]|ô$"),
        ("ß", r"[a-zäöü]ß"),
    )
)  # fmt: skip
_ROMANCE: Final = frozenset("êûœùõãñÊÛŒÙÕÃÑ")  # of languages that write no k and no w
_OPENING: Final = frozenset("«‹„‚“‘”»¿¡(€$£¥#§©±")  # what may stand before a word
_CLOSING: Final = frozenset("»›“”’‘«!?…™®°%ªº€£¥¢")  # and behind one
_LONGEST: Final = 200  # bytes: what is longer is no word
_ALONE: Final = frozenset("\u00a0–—•·×÷±°²³µ½¼¾…™®©«»‹›„“”‚‘’§¿¡€£¥¢‰ªº¹´")
_APOSTROPHE: Final = re.compile(
    r"(?i)(?:^|[^a-z])(?:[dlnmtsjcoy]|qu|jusqu|lorsqu|puisqu|aujourd|presqu|quelqu|dell|all|nell|sull|un|n)$"
)
_SHORT: Final = re.compile(r"(?i)(?:^|[^a-z])(?:m|cm|dm|mm|km|ft|in|yd|co|h)$")


def is_western(word: bytes) -> bool:
    """Says whether a word (letters, digits, bytes over 127) reads as one of a Western language in cp1252."""
    if len(word) > _LONGEST:
        return False
    try:
        text = word.decode("cp1252")
    except UnicodeDecodeError:
        return False
    if any("\x80" <= c <= "\x9f" for c in text):
        return False
    return all(_is_part(part) for part in re.split(r"[\u00a0–—/·×•]", text) if not part.isascii()) and _dashes(text)


def _dashes(text: str) -> bool:
    """A dash between two small letters is the Macintosh' ñ or ó."""
    return re.search(r"[a-zà-ÿ][–—•·][a-zà-ÿ]", text.replace("l·l", "ll")) is None


def _is_part(text: str) -> bool:
    letters = {c for c in text if c.isalpha() and not c.isascii() and c not in "µªº"}
    if letters and not (letters <= _LETTERS and any(letters <= alphabet for alphabet in _ALPHABETS)):
        return False
    if re.search(r"[à-öø-ÿ]{3}|[À-ÖØ-Þ]{3}", text) or re.search(r"[a-zà-öø-ÿ][À-ÖØ-Þ]", text):
        return False
    if re.fullmatch(r"(?!çà)[À-ÖØ-öø-ÿœŒ]{2,}", text) or re.search(r"(?:^|[^A-Za-zÀ-ÿ])[À-ÖÙ-Þ]-?[0-9]", text):
        return False  # a word of marked letters alone: Cyrillic, Greek, Chinese
    lower = text.lower()
    if letters & _ROMANCE and re.search("[kw]", lower):
        return False
    for letter in letters:
        small = letter.lower()
        for known, place in _PLACES:
            if known == small and len(place.findall(lower)) < lower.count(small):
                return False
    return all(_is_sign(text, place) for place, c in enumerate(text) if not c.isascii() and not _is_letter(c))


def _is_letter(c: str) -> bool:
    return c.isalpha() and c not in "µªºƒˆ"


def _is_sign(text: str, place: int) -> bool:
    """Whether a sign stands where signs stand: between a word and what is around it, not within the word."""
    sign, before, behind = text[place], text[:place], text[place + 1 :]
    if sign not in _ALONE:
        return False
    left = bool(before) and _is_letter(before[-1])
    right = bool(behind) and _is_letter(behind[0])
    if sign in "²³¹":
        return not right and (not left or _SHORT.search(before) is not None)
    if sign in "½¼¾°":
        return (sign == "°" and not left) or not (left or right)
    if sign in "’‘´" and left and right:
        english = re.match(r"(?i)(?:s|t|re|ve|ll|d|m|n)(?![a-zà-ÿ])", behind)
        elided = _APOSTROPHE.search(before) and re.match(r"(?i)[aeiouyhà-ÿœ]", behind)
        name = before[-1:] == "O" and behind[0].isupper()
        return bool(english or elided or name or behind.startswith("n’"))
    if left and right:
        return False
    if sign == "µ":
        return not left
    if left:
        return sign in _CLOSING
    if right:
        return sign in _OPENING and sign not in "€£¥§©±" and (sign not in "¿¡" or behind[0].isupper())
    return True
