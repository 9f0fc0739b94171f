"""Rendering: a template and its values become the subject, the HTML and the plain text of a mail.

The order is Jinja2, then MJML: values are escaped while the source is still text, and the MJML compiler (`mrml`)
passes entities on as it finds them. The plain text is made of the same source, so both always say the same.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import mrml
from inscriptis import get_text
from inscriptis.css_profiles import CSS_PROFILES
from inscriptis.model.config import ParserConfig
from inscriptis.model.html_document_state import HtmlDocumentState
from inscriptis.model.tag import CustomHtmlTagHandlerMapping
from jinja2 import FileSystemLoader, StrictUndefined, Template
from jinja2.sandbox import SandboxedEnvironment

from processors.shared.safe_text import Shown, shown, text_shown

TemplateName = Literal[
    "welcome", "password_reset", "stock_alert", "report_ready", "import_done", "import_failed", "export_ready",
    "daily_digest", "report_failed", "stock_alerts", "sync_failed",
]  # fmt: skip

_SUBJECTS: Final[dict[TemplateName, str]] = {
    "welcome": "Welcome to Planning Bord",
    "password_reset": "Choose a new Planning Bord password",
    "stock_alert": "Low stock: {% if name %}{{ name }}, {% endif %}{{ sku }} ({{ quantity }} left)",
    "stock_alerts": "Low stock: {{ count }} items of {{ business }}",
    "report_ready": "Your report is ready",
    "report_failed": "Your {{ what|default('report') }} could not be made",
    "import_done": "{% if repeated %}Imported before: {{ name }}"
    "{% elif nothing %}Not imported: {{ name }}{% else %}Imported: {{ name }}"
    "{% if refused %} ({{ refused }} refused){% endif %}{% endif %}",
    "import_failed": "Not imported: {{ name }}",
    "sync_failed": "Stock sync with {{ system }} has stopped",
    "export_ready": "Your export is ready",
    "daily_digest": "{{ business }}: {{ revenue }} on {{ day }}",
}
# Fonts would make every mail fetch a stylesheet from a third party when it is opened.
_OPTIONS: Final = mrml.RenderOptions(disable_comments=True, fonts={})
# What a reader of plain text needs of the source. Data in it is escaped: no value can be one of these tags.
_HEAD: Final = re.compile(r"<mj-head>.*?</mj-head>", re.DOTALL)
_TAG: Final = re.compile(r"<(/?)mj-([a-z]+)")
_AS_HTML: Final = {
    ("", "button"): "<p><a",
    ("/", "button"): "</a></p",
    ("", "table"): "<table",
    ("/", "table"): "</table",
}
# inscriptis decodes entities again after the parser has: `?a=1&region=eu` in a link would become `?a=1®ion=eu`. So
# ampersands that are meant pass through it as a character of the private use area.
_AMPERSAND: Final = "\ue000"


class Rendered(NamedTuple):
    """What a mail says: its subject, and its body twice."""

    subject: str
    html: str
    text: str


# Templates are files of ours; data is only ever a value in them. The sandbox and the escaping hold even if not.
_html: Final = SandboxedEnvironment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_subject: Final = SandboxedEnvironment(autoescape=False, undefined=StrictUndefined)  # a header is not HTML


@cache
def _subject_template(template: TemplateName) -> Template:
    return _subject.from_string(_SUBJECTS[template])


def render(template: TemplateName, **values: Any) -> Rendered:
    """Renders a mail. Texts are made fit to be shown (`text_shown`), unless they are `Shown` already or the `link`.

    Raises `jinja2.UndefinedError` for a value the template misses: that is a bug, not bad data.
    """
    visible = {name: shown(value) if name == "link" else _visible(value) for name, value in values.items()}
    subject = _subject_template(template).render(visible)
    source = _html.get_template(f"{template}.mjml.j2").render(visible, subject=subject)
    html = mrml.to_html(source, None, _OPTIONS).content
    return Rendered(subject, html, _plain(_lighter(source)))


def _visible(value: Any) -> Any:
    match value:
        case Shown():
            return value
        case str():
            return text_shown(value)
        case list():
            return [_visible(part) for part in value]
        case dict():
            return {name: _visible(part) for name, part in value.items()}
    return value


def _lighter(source: str) -> str:
    """The source as HTML that means the same and looks like nothing. The finished HTML has five times the elements, for
    mail readers of 2007, and takes three times as long to be read.
    """
    return _TAG.sub(lambda tag: _AS_HTML.get((tag[1], tag[2]), f"<{tag[1]}div"), _HEAD.sub("", source, count=1))


def _plain(html: str) -> str:
    text = get_text(html.replace("&amp;", _AMPERSAND), _text_config()).replace(_AMPERSAND, "&")
    lines = [line.strip() for line in text.splitlines()]  # centred cells arrive as runs of spaces
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


@cache
def _text_config() -> ParserConfig:
    links = CustomHtmlTagHandlerMapping(start_tag_mapping={"a": _open_link}, end_tag_mapping={"a": _close_link})
    return ParserConfig(css=CSS_PROFILES["strict"].copy(), custom_html_tag_handler_mapping=links)


def _open_link(state: HtmlDocumentState, attributes: dict[str, str]) -> None:
    state.link_target = attributes.get("href", "")


def _close_link(state: HtmlDocumentState) -> None:
    """Writes the target after the link's words, on a line of its own.

    Readers of plain text must see where it leads, and a bracket beside it would become part of it when they click.
    """
    if state.link_target:
        canvas = state.tags[-1].canvas
        canvas.write_newline()
        state.tags[-1].write(state.link_target)
        canvas.write_newline()
