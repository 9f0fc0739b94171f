"""Faults: the small changes that can be made to a file: of Python by its syntax tree, of Lua by its words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from itertools import pairwise
from pathlib import Path
from typing import Final

from tests.faults.soak.mutants import MUTANTS
from tests.mutation.equivalents import EQUIVALENTS, Equivalent

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("streams", "schemas", "processors", "observability")
# What plays, is made for tests, is run once, or is how something looks: no rule of the product is in it.
LEFT_OUT: Final = (
    "processors/shared/database/migrations/",
    "processors/shared/database/sample_data/seed.py", "processors/shared/database/sample_data/catalogue.py",
    "streams/testing/", "streams/events/examples.py",
    "processors/report/writers/xlsx.py", "processors/report/charts.py", "processors/report/writers/pdf.py",
)  # fmt: skip
_SMALL: Final = 10
"""Up to here a number in a comparison, a sum or an index is an edge; a larger one is mostly a measure of comfort."""

_COMPARISONS: Final = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"), ast.NotIn: ("not in", "in"),
}  # fmt: skip
_ARITHMETIC: Final = {ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.FloorDiv: ("//", "*")}
_SILENT: Final = {"log", "logger", "warnings", "sys", "print", "note", "typer"}  # what they say is for people
_UNTESTED: Final = {"__repr__", "__str__", "__rich__"}


@dataclass(frozen=True)
class Fault:
    """One change: the text between two offsets (in bytes) of a file, and what is there instead."""

    file: str
    line: int
    start: int
    end: int
    new: str
    kind: str

    def apply(self, source: str) -> str:
        """The file with the fault in it."""
        data = source.encode()
        return (data[: self.start] + self.new.encode() + data[self.end :]).decode()

    def is_program(self, source: str) -> bool:
        """Whether it leaves a program: what no longer compiles needs no test."""
        if self.file.endswith(".lua"):
            return True
        try:
            ast.parse(self.apply(source))
        except SyntaxError:
            return False
        return True

    def lines(self, source: str) -> tuple[str, str]:
        """The lines that are changed, before and after, as `Equivalent` has them."""
        before, after = source.splitlines(), self.apply(source).splitlines()
        head = 0
        while head < min(len(before), len(after)) and before[head] == after[head]:
            head += 1
        tail = 0
        while tail < min(len(before), len(after)) - head and before[-1 - tail] == after[-1 - tail]:
            tail += 1
        parts = (before[head : len(before) - tail], after[head : len(after) - tail])
        return (" ".join(map(str.strip, parts[0])), " ".join(map(str.strip, parts[1])))

    def equivalent(self, source: str) -> Equivalent | None:
        """What is known of the change."""
        old, new = self.lines(source)
        return next((one for one in EQUIVALENTS if (one.file, one.old, one.new) == (self.file, old, new)), None)

    def diff(self, source: str) -> str:
        """For a person."""
        changed = unified_diff(
            source.splitlines(), self.apply(source).splitlines(), self.file, self.kind, n=2, lineterm=""
        )
        return "\n".join(changed)


def files(only: str = "") -> list[str]:
    """The files that faults are put into, in a fixed order."""
    found = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for kind in ("*.py", "*.lua")
        for path in sorted((ROOT / package).rglob(kind))
    ]
    return [name for name in found if name.startswith(only) and not name.startswith(LEFT_OUT)]


def faults_of(file: str, source: str) -> list[Fault]:
    """Every fault that can be put into a file, in the order of its lines."""
    known = {line.strip() for mutant in MUTANTS if mutant.file == file for line in mutant.old.splitlines()}
    lines = source.splitlines()
    made = _of_lua(file, source) if file.endswith(".lua") else _Python(file, source).faults()
    return [fault for fault in made if lines[fault.line - 1].strip() not in known]


class _Python:
    """The faults of one Python file."""

    def __init__(self, file: str, source: str) -> None:
        self._file = file
        self._data = source.encode()
        self._source = source
        self._begins = [0]  # where each line begins, in bytes, as the syntax tree counts
        for line in self._data.splitlines(keepends=True):
            self._begins.append(self._begins[-1] + len(line))

    def faults(self) -> list[Fault]:
        """Each once."""
        found = {(fault.start, fault.end, fault.new): fault for fault in self._walk(ast.parse(self._source))}
        return [fault for _, fault in sorted(found.items())]

    def _at(self, line: int, column: int) -> int:
        return self._begins[line - 1] + column

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._at(node.lineno, node.col_offset), self._at(node.end_lineno, node.end_col_offset)

    def _text(self, node: ast.expr) -> str:
        start, end = self._span(node)
        return self._data[start:end].decode()

    def _fault(self, node: ast.expr | ast.stmt, new: str, kind: str, span: tuple[int, int] | None = None) -> Fault:
        start, end = span or self._span(node)
        line = self._data.count(b"\n", 0, start) + 1
        return Fault(self._file, line, start, end, new, kind)

    def _between(self, left: ast.expr, right: ast.expr, old: str, new: str, kind: str) -> Iterator[Fault]:
        """Changes the operator between two expressions."""
        start, end = self._span(left)[1], self._span(right)[0]
        gap = self._data[start:end].decode()
        pattern = r"\s+".join(map(re.escape, old.split())) if old[0].isalpha() else re.escape(old)
        if len(found := list(re.finditer(pattern, gap))) == 1:
            at = start + len(gap[: found[0].start()].encode())
            yield self._fault(left, new, kind, (at, at + len(found[0][0].encode())))

    def _walk(self, node: ast.AST) -> Iterator[Fault]:
        for child in _children(node):
            if _is_left_out(child):
                continue
            yield from self._of(child)
            yield from self._walk(child)

    def _of(self, node: ast.AST) -> Iterator[Fault]:
        for number in _edges(node):
            yield self._fault(number, str(number.value + 1), "one more")  # type: ignore[operator]
        match node:
            case ast.Compare(left=left, ops=ops, comparators=others):
                for operator, one, other in zip(ops, [left, *others], others, strict=False):
                    old, new = _COMPARISONS[type(operator)]
                    yield from self._between(one, other, old, new, f"{old} becomes {new}")
            case ast.BoolOp(op=operator, values=values):
                old, new = ("and", "or") if isinstance(operator, ast.And) else ("or", "and")
                for one, other in pairwise(values):
                    yield from self._between(one, other, old, new, f"{old} becomes {new}")
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _ARITHMETIC:
                if not (isinstance(left, ast.Constant) and isinstance(right, ast.Constant)):
                    old, new = _ARITHMETIC[type(operator)]
                    yield from self._between(left, right, old, new, f"{old} becomes {new}")
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                yield self._fault(node, f"({self._text(operand)})", "not is left out")
            case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
                if not isinstance(test, ast.Constant):
                    yield self._fault(test, f"not ({self._text(test)})", "the condition is the other way round")
            case ast.Constant(value=bool() as value):
                yield self._fault(node, str(not value), "the other truth")
            case ast.Call(func=ast.Name(id="min" | "max" as name) as function):
                yield self._fault(function, "max" if name == "min" else "min", "min and max")
                yield from self._exchanged(node)
            case ast.Call():
                yield from self._exchanged(node)
            case ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign() | ast.Raise() | ast.Delete():
                yield self._fault(node, "pass", "a statement is left out")
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                yield self._fault(node, "pass", "a statement is left out")
            case ast.Continue():
                yield self._fault(node, "break", "continue becomes break")
            case ast.Break():
                yield self._fault(node, "continue", "break becomes continue")

    def _exchanged(self, call: ast.Call) -> Iterator[Fault]:
        """The first two arguments, where they are of one shape and could be mistaken for each other."""
        match call.args:
            case [one, other, *_] if type(one) is type(other) and isinstance(one, ast.Name | ast.Attribute):
                first, second = self._text(one), self._text(other)
                span = (self._span(one)[0], self._span(other)[1])
                gap = self._data[self._span(one)[1] : self._span(other)[0]].decode()
                yield self._fault(one, f"{second}{gap}{first}", "two arguments are exchanged", span)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """What is inside, without what does not run or is no rule: annotations, decorators' texts, defaults of types."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_comment", "type_params", "bases"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child


def _edges(node: ast.AST) -> Iterator[ast.Constant]:
    """The small whole numbers that something is compared with, added to, cut off at, or returned."""
    match node:
        case ast.Compare(left=left, comparators=others):
            parts: list[ast.AST | None] = [left, *others]
        case ast.BinOp(left=left, right=right, op=ast.Add() | ast.Sub()):
            parts = [left, right]
        case ast.Subscript(slice=ast.Slice(lower=lower, upper=upper)):
            parts = [lower, upper]
        case ast.Subscript(slice=place):
            parts = [place]
        case ast.Return(value=value):
            parts = [value]
        case _:
            parts = []
    for part in parts:
        if isinstance(part, ast.Constant) and type(part.value) is int and 0 <= part.value <= _SMALL:
            yield part


def _is_left_out(node: ast.AST) -> bool:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return name in _UNTESTED
        case ast.JoinedStr() | ast.Assert() | ast.Import() | ast.ImportFrom() | ast.Global() | ast.Nonlocal():
            return True  # the syntax tree does not know the places inside of an f-string
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id="write"), args=[])):
            return True  # an empty line
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="log")))):
            return True
        case ast.Call(func=function):
            return _first_name(function) in _SILENT
        case ast.Assign(targets=[ast.Name(id="__slots__" | "__all__")]):
            return True
        case ast.keyword(arg="help" | "description" | "strict" | "metavar" | "slots" | "frozen"):
            return True
    return False


def _first_name(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.value if isinstance(node, ast.Attribute) else node.func
    return node.id if isinstance(node, ast.Name) else ""


_LUA: Final = (
    (r"==", "~=", "== becomes ~="), (r"~=", "==", "~= becomes =="), (r"<=", "<", "<= becomes <"),
    (r">=", ">", ">= becomes >"), (r"(?<![<>=~])<(?!=)", "<=", "< becomes <="),
    (r"(?<![<>=~])>(?!=)", ">=", "> becomes >="),
    (r"\band\b", "or", "and becomes or"), (r"\bor\b", "and", "or becomes and"), (r"\bnot\s+", "", "not is left out"),
    (r"(?<=\s)\+(?=\s)", "-", "+ becomes -"), (r"(?<=\s)-(?=\s)", "+", "- becomes +"),
    (r"(?<![\w.'\]])\d+(?![\w.'])", None, "one more"), (r"\btrue\b", "false", "the other truth"),
    (r"\bfalse\b", "true", "the other truth"), (r"'-inf'", "'0'", "another bound"),
)  # fmt: skip
_LUA_CALL: Final = re.compile(r"^\s*(?:redis\.p?call|\w+)\(.*\)\s*$")
_LUA_IF: Final = re.compile(r"^(\s*(?:else)?if )(.*?)( then\b)")


def _of_lua(file: str, source: str) -> list[Fault]:
    """The faults of one script; what is in quotes or behind `--` is none of it."""
    found = []
    at = 0
    for number, line in enumerate(source.splitlines(keepends=True), start=1):
        code = re.sub(r"'[^']*'", lambda quoted: f"'{'x' * (len(quoted[0]) - 2)}'", line)
        code = code.partition("--")[0] if "--" in code else code
        begin = at
        at += len(line.encode())
        if not line.isascii() or line.lstrip().startswith(("#!", "--")) or not code.strip():
            continue
        for pattern, new, kind in _LUA:
            for match in re.finditer(pattern, line if "'" in pattern else code):
                if match.end() <= len(code):
                    text = str(int(match[0]) + 1) if new is None else new
                    found.append(Fault(file, number, begin + match.start(), begin + match.end(), text, kind))
        if condition := _LUA_IF.match(code):
            start, end = condition.span(2)
            text = f"not ({line[start:end]})"
            kind = "the condition is the other way round"
            found.append(Fault(file, number, begin + start, begin + end, text, kind))
        if _LUA_CALL.match(code.rstrip()) and not code.lstrip().startswith(("local ", "return", "if ")):
            start, end = len(line) - len(line.lstrip()), len(code.rstrip())
            found.append(Fault(file, number, begin + start, begin + end, "", "a statement is left out"))
    return sorted(found, key=lambda fault: (fault.start, fault.end, fault.new))
