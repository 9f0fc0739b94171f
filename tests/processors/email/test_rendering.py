"""The templates: what they say, in HTML and in plain text, and that data is never a template."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError
from lxml import html as lxml_html

from processors.email.rendering import Rendered, TemplateName, render
from processors.shared.safe_text import file_shown, text_shown

LINK = "https://app.example.com/x?a=1&region=eu&copy=2&lt;=3"  # `&reg` and `&copy` are entities to lenient parsers
VALUES: dict[TemplateName, dict[str, Any]] = {
    "welcome": {"name": "Ada Lovelace", "link": LINK},
    "password_reset": {"link": LINK, "until": "24 November 2026, 14:05 UTC"},
    "stock_alert": {
        "sku": "OAK-1", "name": "Oak board", "quantity": 3, "threshold": 10, "business": "Shop & Söhne", "link": LINK,
        "window": "6 hours",
    },
    "stock_alerts": {
        "count": "60", "business": "Shop & Söhne", "more": "and 59 more", "link": LINK, "window": "6 hours",
        "items": [{"sku": "ELM-2", "name": "Elm board", "quantity": "3", "threshold": "10"}],
    },
    "report_ready": {"report": "Sales analysis, October 2026", "link": LINK},
    "report_failed": {"kind": "sales analysis", "problem": "nothing was sold", "link": LINK},
    "sync_failed": {"system": "acme", "problem": "supplier acme: 503", "asked": False, "link": LINK},
    "import_done": {
        "name": file_shown("stock.csv"), "written": "1,200", "refused": "34", "repeated": False, "nothing": False,
        "is_report": True, "link": LINK,
    },
    "import_failed": {
       "name": file_shown("stock.csv"), "problem": "the file is empty", "is_report": False, "link": LINK,
    },
    "export_ready": {"format": "XLSX", "rows": "1,234", "size": "48.2 kB", "link": LINK},
    "daily_digest": {
        "business": "Shop & Söhne", "day": "Monday, 23 November 2026", "revenue": "1,204.50 EUR",
        "sold": "110 pieces in 56 sales", "change": "7 % less than the Monday before",
        "best": [{"sku": "OAK-1", "name": "Oak board", "pieces": "10", "revenue": "340.90"}],
        "below": [{"sku": "ELM-2", "name": "Elm board", "quantity": "3", "threshold": "10"}],
        "below_count": "9", "more_below": "and 8 more", "imports": "1 import of 12 rows", "exports": "2 exports",
        "failed": [{"what": "Import", "why": "the file is empty"}], "link": LINK,
    },
}  # fmt: skip
FIELDS = [
    (template, name)
    for template, values in VALUES.items()
    for name, value in values.items()
    if name != "link" and isinstance(value, str | int) and not isinstance(value, bool)
]
LISTS: list[tuple[TemplateName, str]] = [
    ("daily_digest", "best"), ("daily_digest", "below"), ("daily_digest", "failed"), ("stock_alerts", "items"),
]  # fmt: skip
ROWS = [(template, name, part) for template, name in LISTS for part in VALUES[template][name][0]]
PAYLOADS = [
    "{{7*7}}",
    "{{ ''.__class__.__mro__ }}",
    "{% raw %}x",
    "{#",
    "<script>alert(1)</script>",
    "<mj-raw><b>bold</b></mj-raw>",
    "</mj-text></mj-column><mj-button href='https://evil.example'>x</mj-button>",
    "&lt;b&gt;",
    "&amp;amp; &copy",
    "<!-- x",
    "]]>",
    '"><img src=x onerror=alert(1)>',
]


def words(text: str) -> str:
    """Without runs of spaces, which HTML does not show."""
    return " ".join(text.split())


def rendered(template: TemplateName, **overrides: Any) -> Rendered:
    return render(template, **{**VALUES[template], **overrides})


@pytest.mark.parametrize("template", VALUES)
def test_html_and_text_lead_to_the_same_place(template: TemplateName) -> None:
    mail = rendered(template)
    document = lxml_html.document_fromstring(mail.html)
    assert {link.get("href") for link in document.iter("a")} == {LINK}
    assert LINK in mail.text.splitlines(), "on a line of its own"
    assert "Planning Bord" in mail.text
    assert "\n\n\n" not in mail.text


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("welcome", ["Welcome, Ada Lovelace"]),
        ("password_reset", ["24 November 2026, 14:05 UTC", "works once"]),
        ("stock_alert", ["Oak board is running low", "OAK-1", "Shop & Söhne", "Left in stock: ", "every 6 hours"]),
        ("stock_alerts", ["60 items are running low", "Shop & Söhne", "Elm board", "ELM-2", "3 left", "and 59 more"]),
        ("report_ready", ["Sales analysis, October 2026"]),
        ("report_failed", ["sales analysis", "nothing was sold"]),
        ("sync_failed", ["sync with acme has stopped", "supplier acme: 503", "daily digest of this business"]),
        ("import_done", ["stock.csv", "Rows imported:  1,200", "Rows refused:      34"]),
        ("import_failed", ["stock.csv could not be imported", "the file is empty"]),
        ("export_ready", ["XLSX, 48.2 kB", "1,234"]),
        (
            "daily_digest",
            [
                "Shop & Söhne",
                "110 pieces in 56 sales, 7 % less than the Monday before.",
                "Below the threshold: 9",
                "and 8 more",
                "1 import of 12 rows\n2 exports",
                "Import:  the file is empty",
            ],
        ),
    ],
)
def test_the_text_says_what_matters(template: TemplateName, words: list[str]) -> None:
    text = rendered(template).text
    assert [word for word in words if word not in text] == []


def test_the_subject_of_a_stock_alert_names_the_item_as_it_is() -> None:
    assert rendered("stock_alert", sku="<Oak & Co>").subject == "Low stock: Oak board, <Oak & Co> (3 left)"


def test_an_import_of_nothing_is_not_called_done() -> None:
    mail = rendered("import_done", written="0", refused="3", nothing=True)
    assert mail.subject == "Not imported: stock.csv"
    assert "Nothing could be imported" in mail.text
    assert "Every row of stock.csv was refused" in mail.text
    for untrue in ("is done", "The other rows are imported", "is in Planning Bord"):
        assert untrue not in mail.text
    assert "done" in rendered("import_done").text


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize(("template", "field"), FIELDS)
def test_data_is_shown_and_never_interpreted(template: TemplateName, field: str, payload: str) -> None:
    mail, harmless = rendered(template, **{field: payload}), rendered(template, **{field: "harmless"})
    assert words(text_shown(payload)) in words(mail.text)
    before, after = (lxml_html.document_fromstring(each.html) for each in (harmless, mail))
    assert [element.tag for element in after.iter()] == [element.tag for element in before.iter()]
    assert "49" not in mail.text


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize(("template", "rows", "field"), ROWS)
def test_data_in_a_list_is_not_interpreted_either(template: TemplateName, rows: str, field: str, payload: str) -> None:
    (row,) = VALUES[template][rows]
    mail, harmless = (rendered(template, **{rows: [{**row, field: value}]}) for value in (f"{payload}\x00", "harmless"))
    assert words(text_shown(payload)) in words(mail.text)
    before, after = (lxml_html.document_fromstring(each.html) for each in (harmless, mail))
    assert [element.tag for element in after.iter()] == [element.tag for element in before.iter()]


@pytest.mark.parametrize(("template", "field"), FIELDS)
@settings(max_examples=25, deadline=None)  # of each field, and there are two dozen
@given(value=st.text() | st.text(alphabet=st.characters(categories=["Cc", "Cs", "Cn", "Po", "Sm"])))
def test_no_text_whatever_breaks_a_mail(template: TemplateName, field: str, value: str) -> None:
    mail = rendered(template, **{field: value})
    assert LINK in mail.text.splitlines()
    mail.html.encode()
    mail.text.encode()


LURES = [
    "http://evil.example/", "https:\\\\evil.example", "www.evil.example", "evil.example/login", "ada@evil.example",
    "hxxp\uff1a//evil\u3002example", "evil\uff0eexample", "mailto:x", "javascript:alert(1)", "evil.भारत",
    "a\u202egpj.exe", "evil\u200b.\u200bexample", "evil.\u2066example\u2069", "evil\u2024example", "//evil.example",
    "a\u2028http://evil.example",
]  # fmt: skip
LINK_LIKE = re.compile("://|//|www[.]\\S|[\\w]@|[:\uff1a][^\\s\\d]|[.\u2024\u3002\uff0e]\\w[^\\s\\d<>.,()-]")
UNSEEN = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\u2028]")


def hostile(value: Any, lure: str) -> Any:
    """A value in which each text is a lure."""
    match value:
        case str():
            return lure
        case list():
            return [hostile(part, lure) for part in value]
        case dict():
            return {name: hostile(part, lure) for name, part in value.items()}
    return value


@pytest.mark.parametrize("lure", LURES)
@pytest.mark.parametrize("template", VALUES)
def test_no_value_whatever_is_read_as_a_link(template: TemplateName, lure: str) -> None:
    """Of a name, a SKU, a reason, a file: the one link is ours, and nothing turns the direction of what follows."""
    values = {name: value if name == "link" else hostile(value, lure) for name, value in VALUES[template].items()}
    mail = render(template, **values)
    body = lxml_html.document_fromstring(mail.html).find("body")
    assert body is not None
    for text in (mail.subject, mail.text, " ".join(body.itertext())):
        theirs = text.replace(LINK, "")
        assert not LINK_LIKE.search(theirs), LINK_LIKE.search(theirs)
        assert not UNSEEN.search(theirs)
    assert {link.get("href") for link in body.iter("a")} == {LINK}


@pytest.mark.parametrize("template", VALUES)
def test_ordinary_values_are_shown_as_they_are(template: TemplateName) -> None:
    """Prices, times, sizes, SKUs and sentences."""
    for text in (
        "1,204.50 EUR",
        "05:30, 48.2 kB",
        "S.1/A-B.C",
        "supplier acme: 503.",
        "Müller & Söhne",
        "3:2 = 1.5",
        "👩‍🔧 1.º",
    ):
        mail = render(template, **{
            name: value if name == "link" else hostile(value, text) for name, value in VALUES[template].items()
        })  # fmt: skip
        if any(isinstance(value, str | list) for name, value in VALUES[template].items() if name != "link"):
            assert words(text) in words(mail.text)


@pytest.mark.parametrize("template", VALUES)
def test_opening_a_mail_fetches_nothing(template: TemplateName) -> None:
    html = rendered(template).html
    document = lxml_html.document_fromstring(html)
    assert list(document.iter("img", "link", "script", "iframe")) == []
    assert "@import" not in html
    assert "url(" not in html


@pytest.mark.parametrize("template", VALUES)
def test_a_missing_value_is_a_bug_and_not_an_empty_place(template: TemplateName) -> None:
    with pytest.raises(UndefinedError):
        render(template)
