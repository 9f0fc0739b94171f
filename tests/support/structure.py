"""`python -m tests.support.structure [CHECKOUT]`: how the code is laid out, in numbers; `make structure`.

It reads the files and imports nothing, so that it can look at any checkout. Every import counts: at the top, inside a
function, and for an annotation alone (`if TYPE_CHECKING:`). An import of a name that a face loads lazily is an import
of the module that defines it.
"""

from __future__ import annotations

import argparse
import ast
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOTS: Final = ("schemas", "streams", "processors", "observability", "examples")
MODULES_MOST: Final = 14
"""Modules of one package."""
PACKAGES_MOST: Final = 16
"""Packages of `streams`: 13 of the engine, and `cli`, `sql` and `testing` on top."""
ROOT_MODULES_MOST: Final = 10
"""Modules of `streams` that are in no package."""
ARGUMENTS_MOST: Final = 7
"""Arguments of a constructor, without `self`; more are listed."""

_NO_MODULES: Final = ("__init__", "__main__")

Graph = Mapping[str, set[str]]


@dataclass(frozen=True, order=True)
class Constructor:
    """One `__init__` that is written out."""

    path: str
    name: str
    arguments: int
    callables: tuple[str, ...]
    """Those of its arguments that are functions to be called later."""


@dataclass
class Structure:
    """One checkout: its modules, and what each imports."""

    modules: dict[str, Path] = field(default_factory=dict)
    imports: dict[str, set[str]] = field(default_factory=dict)
    where: dict[tuple[str, str], str] = field(default_factory=dict)
    """The line of the first import of one module by another."""
    constructors: list[Constructor] = field(default_factory=list)
    contracts: list[dict[str, Any]] = field(default_factory=list)
    """The layers in pyproject.toml."""

    @classmethod
    def read(cls, root: Path) -> Structure:
        """Reads a checkout."""
        found = cls()
        for path in sorted(path for each in ROOTS for path in (root / each).rglob("*.py")):
            found.modules[_module(path.relative_to(root))] = path
        trees = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in found.modules.items()}
        homes = {name: home for module, tree in trees.items() for name, home in _lazy_names(module, tree).items()}
        for module, tree in trees.items():
            lazy = set(_lazy_imports(tree))
            for node in ast.walk(tree):
                if node not in lazy:
                    for other in _imported(module, node, found.modules, homes):
                        found.imports.setdefault(module, set()).add(other)
                        line = f"{found.modules[module].relative_to(root)}:{getattr(node, 'lineno', 0)}"
                        found.where.setdefault((module, other), line)
        engine = {module: tree for module, tree in trees.items() if module.split(".")[0] == "streams"}
        aliases = {name for tree in engine.values() for name in _callable_aliases(tree)}
        for module, tree in engine.items():
            path = found.modules[module].relative_to(root).as_posix()
            found.constructors += sorted(_constructors(path, tree, aliases))
        given = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
        found.contracts = [each for each in given["contracts"] if each["type"] == "layers"]
        return found

    def circles(self) -> list[list[str]]:
        """Modules that import each other, in a circle of any length."""
        return circles(self.imports)

    def package_circles(self) -> list[list[str]]:
        """Packages that import each other, in a circle of any length; a module in no package counts as one."""
        return circles(self.rooms())

    def rooms(self) -> dict[str, set[str]]:
        """What each package imports of other packages, by the first two parts of their names."""
        graph: dict[str, set[str]] = {}
        for module, others in self.imports.items():
            graph.setdefault(_room(module), set()).update({_room(other) for other in others} - {_room(module)})
        return graph

    def upward(self) -> list[str]:
        """Imports against the layers in pyproject.toml, those of annotations included."""
        found = []
        for contract in self.contracts:
            for container in contract.get("containers", [""]):
                rank = _ranks(contract["layers"], f"{container}." if container else "")
                for (module, other), line in sorted(self.where.items()):
                    one, two = _layer(module, rank), _layer(other, rank)
                    if one and two and one != two and rank[one] <= rank[two]:
                        found.append(f"{line}: {module} -> {other}")
        return found

    def packages(self) -> dict[str, int]:
        """Modules of each package under `streams`, by its name; those at the root as `streams`."""
        return dict(Counter(
            module.rpartition(".")[0] for module, path in self.modules.items()
            if module.startswith("streams.") and path.stem not in _NO_MODULES
        ))  # fmt: skip

    def callables(self) -> int:
        """Functions that constructors take, to call them later."""
        return sum(len(each.callables) for each in self.constructors)

    def large(self) -> list[Constructor]:
        """Constructors of more than seven arguments, the largest first."""
        found = [each for each in self.constructors if each.arguments > ARGUMENTS_MOST]
        return sorted(found, key=lambda each: (-each.arguments, each))


def circles(graph: Graph) -> list[list[str]]:
    """The strongly connected parts of a graph that have more than one member (Tarjan), sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def enter(node: str) -> tuple[str, Iterator[str]]:
        index[node] = low[node] = len(index)
        stack.append(node)
        return node, iter(sorted(graph.get(node, ())))

    for start in sorted(graph):
        if start in index:
            continue
        path = [enter(start)]
        while path:
            node, others = path[-1]
            if (other := next(others, None)) is not None:
                if other not in index:
                    path.append(enter(other))
                elif other in stack:
                    low[node] = min(low[node], index[other])
                continue
            path.pop()
            if path:
                low[path[-1][0]] = min(low[path[-1][0]], low[node])
            if low[node] == index[node]:
                at = stack.index(node)
                part, stack[at:] = sorted(stack[at:]), []
                if len(part) > 1:
                    found.append(part)
    return sorted(found)


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _is_for_annotations(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _lazy_imports(tree: ast.Module) -> Iterator[ast.ImportFrom]:
    """The imports by which a face declares what it loads when it is asked: it has a `__getattr__` for them."""
    names = {each.id for node in tree.body for each in ast.walk(node) if isinstance(each, ast.Name)}
    if not names & {"__getattr__", "_HOMES"}:
        return
    for node in tree.body:
        if _is_for_annotations(node):
            yield from (each for each in ast.walk(node) if isinstance(each, ast.ImportFrom))


def _lazy_names(module: str, tree: ast.Module) -> dict[str, str]:
    return {
        f"{module}.{alias.name}": node.module or "" for node in _lazy_imports(tree) for alias in node.names
    }  # fmt: skip


def _imported(module: str, node: ast.AST, modules: Mapping[str, Path], homes: Mapping[str, str]) -> Iterator[str]:
    """The modules of the project that one statement imports."""
    found: list[str] = []
    if isinstance(node, ast.Import):
        found = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        package = module if modules[module].stem == "__init__" else module.rpartition(".")[0]
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            name = f"{base}.{alias.name}"
            while name in homes:
                name = f"{homes[name]}.{alias.name}"
            found.append(name if name in modules else name.rpartition(".")[0])
    yield from (each for each in found if each in modules and each != module)


def _callable_aliases(tree: ast.Module) -> Iterator[str]:
    """The names of a module that stand for a kind of function: `Call = Callable[..., Awaitable[Any]]`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Callable["):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _constructors(path: str, tree: ast.Module, aliases: set[str]) -> Iterator[Constructor]:
    for owner in ast.walk(tree):
        if isinstance(owner, ast.ClassDef):
            for node in owner.body:
                if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs][1:]
                    several = [each for each in (node.args.vararg, node.args.kwarg) if each is not None]
                    callables = tuple(each.arg for each in given if _is_callable(each.annotation, aliases))
                    yield Constructor(path, owner.name, len(given) + len(several), callables)


def _is_callable(annotation: ast.expr | None, aliases: set[str]) -> bool:
    if annotation is None:
        return False
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    return any(isinstance(each, ast.Name) and each.id in {"Callable", *aliases} for each in ast.walk(annotation))


def _ranks(layers: Iterable[str], prefix: str) -> dict[str, int]:
    """The place of each member of a contract's layers, from the lowest."""
    ordered = [layer.replace(":", "|") for layer in layers][::-1]
    return {f"{prefix}{name.strip()}": at for at, layer in enumerate(ordered) for name in layer.split("|")}


def _layer(module: str, rank: Mapping[str, int]) -> str:
    return next((layer for layer in rank if module == layer or module.startswith(f"{layer}.")), "")


def show(structure: Structure) -> Iterator[str]:
    """The report, line by line."""
    for what, found in (("modules", structure.circles()), ("packages", structure.package_circles())):
        yield f"circles between {what}: {len(found)}" + "".join(f", one of {len(circle)}" for circle in found)
        for circle in found:
            yield f"    {' '.join(circle)}"
    upward = structure.upward()
    yield f"upward imports: {len(upward)}"
    yield from (f"    {line}" for line in upward)
    yield f"functions as arguments of constructors of streams: {structure.callables()}"
    yield from (
        f"    {each.path}: {each.name}({', '.join(each.callables)})"
        for each in structure.constructors
        if each.callables
    )
    yield f"constructors of streams with more than {ARGUMENTS_MOST} arguments: {len(structure.large())}"
    yield from (f"    {each.arguments:2}  {each.path}: {each.name}" for each in structure.large())
    packages = structure.packages()
    inside = {name: count for name, count in sorted(packages.items()) if name != "streams"}
    yield f"packages of streams: {len({name.split('.')[1] for name in inside})}"
    yield from (f"    {count:2}  {name}" for name, count in inside.items())
    yield f"modules of streams in no package: {packages.get('streams', 0)}"


def main() -> None:
    """Prints the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("checkout", type=Path, nargs="?", default=Path(__file__).parents[2])
    print("\n".join(show(Structure.read(parser.parse_args().checkout))))


if __name__ == "__main__":
    main()
