"""The layout of the code: nothing imports in a circle, and no listing is too long to be read."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import redis

from streams.redis.keys import Keys
from tests.support.structure import (
    MODULES_MOST,
    PACKAGES_MOST,
    ROOT_MODULES_MOST,
    Structure,
    circles,
    show,
)

ROOT: Final = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def structure() -> Structure:
    return Structure.read(ROOT)


def test_nothing_imports_in_a_circle(structure: Structure) -> None:
    """Neither modules nor packages; an import for an annotation is one too."""
    assert len(structure.imports) > 200
    assert structure.circles() == []
    assert structure.package_circles() == []
    assert structure.upward() == []


def test_each_listing_can_be_read(structure: Structure) -> None:
    """No package, and not the root, has more modules than fit on a page."""
    packages = structure.packages()
    assert {name: count for name, count in packages.items() if count > MODULES_MOST} == {}
    assert len({name.split(".")[1] for name in packages if name != "streams"}) <= PACKAGES_MOST
    assert packages["streams"] <= ROOT_MODULES_MOST


def test_circles_are_found() -> None:
    """Of two and of more, beside what only leads to one."""
    graph = {"a": {"b"}, "b": {"c"}, "c": {"d", "b"}, "d": {"b", "e"}, "e": set(), "f": {"g"}, "g": {"f"}, "h": {"a"}}
    assert circles(graph) == [["b", "c", "d"], ["f", "g"]]


def _project(root: Path, files: dict[str, str]) -> Structure:
    (root / "pyproject.toml").write_text(
        '[[tool.importlinter.contracts]]\ntype = "layers"\ncontainers = ["streams"]\nlayers = ["two", "one | three"]\n'
    )
    for name, text in {"streams/__init__.py": "", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Structure.read(root)


def test_every_kind_of_import_counts(tmp_path: Path) -> None:
    """At the top, in a function, for an annotation, of a whole module, relative, and of a name that a face has."""
    found = _project(tmp_path, {
        "streams/one/__init__.py": (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from streams.one.a import A\n"
            '_HOMES = {"streams.one.a": ("A",)}\n'
        ),
        "streams/one/a.py": "class A:\n    def do(self):\n        import streams.two.c\n",
        "streams/one/b.py": (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from streams.two import c\n"
        ),
        "streams/two/__init__.py": "",
        "streams/two/c.py": "from streams.one import A\nfrom .d import e\n",
        "streams/two/d.py": "from . import c\n",
        "streams/three.py": "from streams.one.b import x\n",
    })  # fmt: skip
    assert found.imports == {
        "streams.one.a": {"streams.two.c"},
        "streams.one.b": {"streams.two.c"},
        "streams.two.c": {"streams.one.a", "streams.two.d"},
        "streams.two.d": {"streams.two.c"},
        "streams.three": {"streams.one.b"},
    }
    assert found.circles() == [["streams.one.a", "streams.two.c", "streams.two.d"]]
    assert found.package_circles() == [["streams.one", "streams.two"]]
    assert found.upward() == [
        "streams/one/a.py:3: streams.one.a -> streams.two.c",
        "streams/one/b.py:3: streams.one.b -> streams.two.c",
        "streams/three.py:1: streams.three -> streams.one.b",
    ]


def test_constructors_are_measured(tmp_path: Path) -> None:
    """Their arguments without `self`, and the functions among them, by whatever name of the kind."""
    found = _project(tmp_path, {
        "streams/one.py": (
            "from collections.abc import Callable\nCall = Callable[..., None]\n"
            "class Small:\n    def __init__(self, a, call: Call | None, *, done: 'Callable[[int], None]'): ...\n"
            "class Large:\n    def __init__(self, a, b, c, /, d, e, *f, g, **h): ...\n"
        ),
    })  # fmt: skip
    assert found.callables() == 2
    assert [(each.name, each.arguments) for each in found.large()] == [("Large", 8)]
    report = "\n".join(show(found))
    assert "streams/one.py: Small(call, done)" in report
    assert "more than 7 arguments: 1" in report


def test_each_package_says_what_it_may_import(structure: Structure) -> None:
    """In the docstring of its face. A package on top may import all, so it need not say."""
    rooms = structure.rooms()
    packages = {path.parent.name: ast.parse(path.read_text()) for path in (ROOT / "streams").glob("*/__init__.py")}
    for package in sorted(packages.keys() - {"cli", "sql", "testing"}):
        docstring = ast.get_docstring(packages[package]) or ""
        said = re.search(r"(?:^May import|imports nothing else)(.*?)\.(?:\s|$)", docstring, re.MULTILINE | re.DOTALL)
        assert said, package
        allowed = set(re.findall(r"`(\w+)`", said[1]))
        imported = {room.removeprefix("streams.") for room in rooms.get(f"streams.{package}", ())}
        assert imported & packages.keys() <= allowed, package


def test_redis_is_the_library_and_not_the_package_of_that_name() -> None:
    """However `streams` is loaded: each of its modules imports the client library by the same name."""
    code = (
        "import pkgutil, sys, streams\n"
        "for each in pkgutil.walk_packages(streams.__path__, 'streams.'):\n"
        "    each.name.endswith('__main__') or __import__(each.name)\n"
        "import redis, streams.redis.keys\n"
        "assert redis is not streams.redis\n"
        "print(redis.__version__, *sorted(name for name in sys.modules if name.split('.')[0] == 'redis'\n"
        "    and str(getattr(sys.modules[name], '__file__', '')).startswith(streams.__path__[0])))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [redis.__version__]
    assert not Path(redis.__file__).is_relative_to(ROOT / "streams")


NEEDS: Final = {
    r"\b(?:microseconds|microsecond) // 1000": {"streams/redis/partition.py"},
    r"redis: Any = (?:\w+\.)*redis\b": {"streams/redis/entries.py"},
    r"^import difflib|from difflib": {"streams/phrases.py"},
    r"\(BaseSettings\)": {"streams/settings.py"},
    r'":stream:" in|\{\w+\.tag\}:stream:': {"streams/redis/keys.py", "streams/testing/server.py"},
    r"\(7, 0(?:, 0)?\)": {"streams/redis/embedded.py"},
    r"datetime\.fromisoformat\(": {
        "streams/cli/times.py",  # what people type; the others read what is in Redis
        "streams/redis/untrusted.py", "streams/messages/message.py", "streams/cli/commands/replay.py",
    },
    r"else ['\"]s['\"]\}": {"streams/phrases.py"},
}  # fmt: skip
"""What is done in one place: a pattern of how it is done, and where it may be."""


@pytest.mark.parametrize("pattern", NEEDS)
def test_one_mechanism_for_one_need(pattern: str) -> None:
    """A second one would drift away from the first."""
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "streams").rglob("*.py")
        if re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert found <= NEEDS[pattern]


def test_the_script_doors_take_keys() -> None:
    """Each function that calls a script is given `Keys`, not key names one by one; a source may be any of several."""
    own = {"progress", "report", "fetch", "find_entries", "begin", "reclaim", "run", "renew_arguments"}
    doors = [*(ROOT / "streams").glob("*/scripts.py"), ROOT / "streams/settling/limits.py"]
    names = {name for name in vars(Keys) if not name.startswith("_")} - {
        "limits",
        "turns",
        "producer",
        "source",
        "stream",
    }
    assert len(doors) > 5
    for path in doors:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.AsyncFunctionDef) and node.name not in own and not node.name.startswith("_"):
                arguments = {each.arg for each in (*node.args.args, *node.args.kwonlyargs)}
                assert "keys" in arguments, (path.name, node.name)
                strings = {
                    each.arg for each in (*node.args.args, *node.args.kwonlyargs)
                    if isinstance(each.annotation, ast.Name) and each.annotation.id == "str"
                }  # fmt: skip
                assert not strings & names, (path.name, node.name, strings & names)
