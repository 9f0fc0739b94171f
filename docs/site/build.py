"""Builds the documentation as a site: `make docs`.

Pages link to files beside docs/ (tests, examples, the README), as GitHub shows them. Each file that a page leads to
becomes a page of the site under project/, and the links between all of them are rewritten, so the site needs no
address of a repository. The pages are written to .docs/pages, and Zensical builds them strictly: a link or an anchor
that leads nowhere ends the build. `<!-- api: NAME -->` in a page becomes the documentation of that name. What is built
loads nothing from another server.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ROOT / ".docs/pages"
SITE: Final = ROOT / "site"
DOCS: Final = "docs/"
LANGUAGES: Final = {".py": "python", ".toml": "toml", ".yml": "yaml", ".lua": "lua"}

_FENCE: Final = re.compile(r"^(`{3,})(\w*)\n.*?^\1$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"(?<!!)(\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^)\s]+)\)")
_FILE_NAME: Final = re.compile(r"\[[\w./-]+\.md\]")
_IMAGE_FROM_OUTSIDE: Final = re.compile(r"^!\[[^\]]*\]\(https?://[^)]*\)\n", re.MULTILINE)
_IMAGE: Final = re.compile(r"(!\[[^\]]*\])\(([^)\s]+)\)")
_MARK: Final = re.compile(r"^<!-- test: .*? -->\n", re.MULTILINE)
_API: Final = re.compile(r"^<!-- api: (\S+) -->$", re.MULTILINE)
_ARROW: Final = re.compile(r"^ *(\S+) --> ([^\s:]+)(?:: (.*))?$", re.MULTILINE)
_LOADED: Final = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*\s(?:src|href)=[\"']?(?:https?:)?//[^>]*>|url\(//"
)


class DeadLink(Exception):
    """A link of a page that leads nowhere."""


def _page_of(path: str) -> str:
    """The page, or other file, of the site that shows this file or folder of the repository."""
    if path.startswith(DOCS):
        return path.removeprefix(DOCS)
    shown = path.removeprefix(".")  # Zensical leaves out what begins with a dot
    if (ROOT / path).is_dir():
        return f"project/{shown}/README.md"
    return f"project/{shown}" if path.endswith(".md") else f"project/{shown}.md"


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """The parts of a page in order, and whether each is prose (and not a fenced block)."""
    end = 0
    for fence in _FENCE.finditer(text):
        yield text[end : fence.start()], True
        yield fence[0], False
        end = fence.end()
    yield text[end:], True


def _target(place: str, link: str) -> tuple[str, str] | None:
    """The file of the repository to which a link leads, and the anchor; None for another site and for its own page."""
    path, _, anchor = link.partition("#")
    if not path or "://" in link or link.startswith("mailto:"):
        return None
    target = posixpath.normpath(posixpath.join(posixpath.dirname(place), path))
    if target.startswith("..") or not (ROOT / target).exists():
        raise DeadLink(f"{place}: the link {link} leads nowhere")
    return target, anchor


def _content(path: str) -> tuple[str, str]:
    """The Markdown that shows a file or folder, and the place in the repository from which its links lead."""
    file = ROOT / path
    if file.is_dir():
        readme = file / "README.md"
        text = readme.read_text(encoding="utf-8") if readme.exists() else f"# {path}\n"
        names = sorted(item.name for item in file.iterdir() if item.suffix == ".py" and item.stem[0] != "_")
        listed = "\n".join(f"- [{name}]({name})" for name in names)
        return f"{text}\n## The files\n\n{listed}\n", f"{path}/README.md"
    text = file.read_text(encoding="utf-8")
    if not path.endswith(".md"):
        text = f"# {file.name}\n\n`{path}`\n\n````{LANGUAGES.get(file.suffix, 'text')}\n{text}\n````\n"
    return text, path


def _title(path: str) -> str:
    """The title of a page in Markdown, or an empty string."""
    found = re.search(r"^# (.+)$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""


def _table(fence: str) -> str:
    """A state diagram as a table: what would draw it in the browser is not part of the site."""
    if not fence.startswith("```mermaid\nstateDiagram"):
        return fence
    rows = [f"| {old} | {new} | {when} |".replace("[*]", "") for old, new, when in _ARROW.findall(fence)]
    return "\n".join(["| from | to | when |", "|---|---|---|", *rows])


class Pages:
    """The pages of the site, by their path in it: those of docs/, and those that they lead to."""

    def __init__(self) -> None:
        self._written: set[str] = set()
        self._waiting = [page.relative_to(ROOT).as_posix() for page in sorted((ROOT / DOCS).rglob("*.md"))]

    def write(self) -> None:
        """Writes all of them."""
        while self._waiting:
            path = self._waiting.pop()
            page = _page_of(path)
            if page in self._written:
                continue
            self._written.add(page)
            text, place = _content(path)
            file = PAGES / page
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self._rewritten(text, place, page), encoding="utf-8")

    def _rewritten(self, text: str, place: str, page: str) -> str:
        """The text of a page as the site needs it; what it leads to waits to be written."""
        documented = {f"[`{name.rpartition('.')[2]}`]": name for name in _API.findall(text)}

        def link(found: re.Match[str]) -> str:
            target = _target(place, found[2])
            if target is None:
                return found[0]
            if found[1] in documented:  # on this page: a cross-reference, instead of the way to the source
                return f"{found[1]}[{documented[found[1]]}]"
            path, anchor = target
            if _page_of(path).endswith(".md"):
                self._waiting.append(path)
            to = posixpath.relpath(_page_of(path), posixpath.dirname(page) or ".")
            label = found[1]
            if _FILE_NAME.fullmatch(label) and (title := _title(path)):
                label = f"[{title}]"
            return f"{label}({to}{'#' if anchor else ''}{anchor})"

        parts = []
        for part, is_prose in _parts(text):
            if is_prose:
                prose = _IMAGE.sub(link, _IMAGE_FROM_OUTSIDE.sub("", _MARK.sub("", part)))
                parts.append(_API.sub(r"::: \1", _LINK.sub(link, prose)))
            else:
                parts.append(_table(part))
        return "".join(parts)


def main() -> int:
    """Writes the pages, builds the site, and looks at what was built. Returns the exit code."""
    shutil.rmtree(PAGES, ignore_errors=True)
    others = shutil.ignore_patterns("*.md", "*.py", "__pycache__")
    shutil.copytree(ROOT / DOCS, PAGES, ignore=others)
    try:
        Pages().write()
    except DeadLink as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    built = subprocess.run(
        [Path(sys.executable).with_name("zensical"), "build", "--strict", "--clean"],
        cwd=ROOT, env=os.environ | {"NO_COLOR": "1"}, check=False,
    )  # fmt: skip
    if built.returncode:
        return built.returncode
    loading = [
        f"error: {path.relative_to(SITE)} loads something from another server: {found[0]}"
        for path in sorted(SITE.rglob("*.html"))
        if (found := _LOADED.search(path.read_text(encoding="utf-8")))
    ]
    print("\n".join(loading) or f"{SITE.name}/index.html is the first page", file=sys.stderr if loading else sys.stdout)
    return bool(loading)


if __name__ == "__main__":
    sys.exit(main())
