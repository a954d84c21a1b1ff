"""A reader of code that builds text: it follows a few statements of a syntax tree with stand-in values.

Nothing is executed or imported. Only what building a prompt needs is understood: literals, f-strings, `+`,
`.format`, `.replace`, `.join`, look-ups, `if` and `for` over lists. Everything else becomes `Unknown`, and using that
in a text is an error that names the line. Steps and lengths are bounded, so no file can make it run away.

Values that the code would get from outside are marks: `mark("question")` is a text that is found again in the result.
Counting is followed too: an `Index` put into a text becomes `mark("n5")`.
"""

from __future__ import annotations

import ast
import operator
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

MAX_STEPS = 200_000
MAX_CHARS = 200_000


class NotUnderstood(Exception):
    """Code beyond what is followed; the message names the line."""


def mark(name: str) -> str:
    return f"\x00{name}\x00"


class Index(int):
    """A number that was counted: it shows as a mark."""


@dataclass(frozen=True)
class Unknown:
    """A value that could not be followed, and why where that is known."""

    line: int
    why: str = ""


@dataclass(frozen=True)
class Record:
    """An object with attributes, as `args`; those not given are `Unknown`."""

    values: Mapping[str, Any]


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_TEXT_METHODS = ("lower", "upper", "strip", "lstrip", "rstrip", "capitalize", "startswith", "endswith")


@dataclass
class Follower:
    """`names` are the variables. `size_of` gives (width, height) of an image, for code that asks for its `.size`;
    `replaced` collects the (old, new) of every `.replace`."""

    names: dict[str, Any]
    size_of: Callable[[Any], tuple[str, str]] = lambda image: ("", "")
    replaced: list[tuple[str, str]] = field(default_factory=list)
    steps: int = 0

    def run(self, statements: list[ast.stmt]) -> None:
        """Follow statements; raises NotUnderstood."""
        for statement in statements:
            self._step(statement)
            match statement:
                case ast.Assign(targets=targets, value=value):
                    found = self._try(value)
                    for target in targets:
                        self._assign(target, found)
                case ast.AnnAssign(target=target, value=value) if value is not None:
                    self._assign(target, self._try(value))
                case ast.AugAssign(target=target, op=op, value=value):
                    load = ast.parse(ast.unparse(target), mode="eval").body
                    ast.copy_location(load, target)
                    self._assign(target, self._try(ast.copy_location(ast.BinOp(load, op, value), statement)))
                case ast.Expr(value=value):
                    self._try(value)
                case ast.If(test=test, body=body, orelse=orelse):
                    self.run(body if self.value(test) else orelse)
                case ast.For(target=target, iter=iterated, body=body):
                    self._loop(target, self.value(iterated), body, statement)
                case ast.Break():
                    raise _Break
                case ast.Continue():
                    raise _Continue
                case ast.Raise():
                    raise NotUnderstood(f"line {statement.lineno}: the code gives up here")
                case _:
                    pass  # imports, definitions, assertions: a name they would bind stays unknown

    def turn(self, body: list[ast.stmt]) -> None:
        """Follow the body of a loop once; raises NotUnderstood."""
        try:
            self.run(body)
        except (_Break, _Continue):
            return

    def _loop(self, target: ast.expr, items: Any, body: list[ast.stmt], node: ast.stmt) -> None:
        if not isinstance(items, list | tuple):
            raise NotUnderstood(f"line {node.lineno}: the loop is not over a list")
        for item in items:
            self._assign(target, item)
            try:
                self.run(body)
            except _Continue:
                continue
            except _Break:
                break

    def _step(self, node: ast.AST) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise NotUnderstood(f"line {getattr(node, 'lineno', 0)}: the code is too long to follow")

    def _try(self, node: ast.expr) -> Any:
        """The value, or Unknown: what is not used in a text need not be understood."""
        try:
            return self.value(node)
        except NotUnderstood as exc:
            return Unknown(node.lineno, str(exc))

    def _assign(self, target: ast.expr, value: Any) -> None:
        match target:
            case ast.Name(id=name):
                self.names[name] = value
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                values = value if isinstance(value, tuple | list) else [Unknown(target.lineno)] * len(elements)
                if len(values) != len(elements):
                    raise NotUnderstood(f"line {target.lineno}: {len(elements)} names for {len(values)} values")
                for element, one in zip(elements, values, strict=True):
                    self._assign(element, one)
            case ast.Subscript(value=base, slice=key):
                holder, name = self._try(base), self._try(key)
                if isinstance(holder, dict) and isinstance(name, str | int):
                    holder[name] = value
            case _:
                pass

    def value(self, node: ast.expr) -> Any:
        """The value of an expression. Raises NotUnderstood."""
        self._step(node)
        try:
            found = self._value(node)
        except (TypeError, KeyError, IndexError, ValueError, AttributeError, ArithmeticError) as exc:
            raise NotUnderstood(f"line {node.lineno}: {ast.unparse(node)[:80]!r} cannot be followed") from exc
        if isinstance(found, Unknown):
            raise NotUnderstood(found.why or f"line {found.line}: {ast.unparse(node)[:80]!r} cannot be followed")
        if isinstance(found, str | list) and len(found) > MAX_CHARS:
            raise NotUnderstood(f"line {node.lineno}: {ast.unparse(node)[:80]!r} is too long")
        return found

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self.names.get(name, Unknown(node.lineno))
            case ast.JoinedStr(values=pieces):
                return "".join(self._text(self.value(piece)) for piece in pieces)
            case ast.FormattedValue(value=value, format_spec=None):
                return self._text(self.value(value))
            case ast.Attribute(value=base, attr=name):
                holder = self.value(base)
                if isinstance(holder, Record):
                    return holder.values.get(name, Unknown(node.lineno))
                return self.size_of(holder) if name == "size" else Unknown(node.lineno)
            case ast.Subscript(value=base, slice=key):
                return self.value(base)[self.value(key)]
            case ast.BinOp(left=left, op=op, right=right):
                return self._arithmetic(self.value(left), op, self.value(right), node)
            case ast.BoolOp(op=ast.And(), values=values):
                return all(self.value(value) for value in values)
            case ast.BoolOp(values=values):
                return any(self.value(value) for value in values)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self.value(operand)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.value(operand)
            case ast.Compare(left=left, ops=ops, comparators=rights):
                values = [self.value(left), *map(self.value, rights)]
                return all(_COMPARE[type(op)](a, b) for op, a, b in zip(ops, values, values[1:], strict=False))
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self.value(body if self.value(test) else orelse)
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                found = [self._try(element) for element in elements]
                return found if isinstance(node, ast.List) else tuple(found)
            case ast.Dict(keys=keys, values=values) if all(key is not None for key in keys):
                return {self.value(key): self._try(value) for key, value in zip(keys, values, strict=True) if key}
            case ast.Call():
                return self._call(node)
            case _:
                return Unknown(node.lineno)

    @staticmethod
    def _text(value: Any) -> str:
        if isinstance(value, Index):
            return mark(f"n{int(value)}")
        if isinstance(value, str | int) and not isinstance(value, bool):
            return str(value)
        raise TypeError("not a text")

    @staticmethod
    def _arithmetic(left: Any, op: ast.operator, right: Any, node: ast.expr) -> Any:
        if isinstance(op, ast.Add) and isinstance(left, str | list) and type(left) is type(right):
            return left + right
        if not isinstance(left, int) or not isinstance(right, int):
            raise TypeError("not numbers")
        kinds = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv}
        if type(op) not in kinds or max(abs(left), abs(right)) > 10**12:
            return Unknown(node.lineno)
        found = kinds[type(op)](left, right)
        return Index(found) if isinstance(left, Index) or isinstance(right, Index) else found

    def _call(self, node: ast.Call) -> Any:
        arguments = [self._try(argument) for argument in node.args]
        keywords = {keyword.arg: self._try(keyword.value) for keyword in node.keywords if keyword.arg is not None}
        name = ast.unparse(node.func)
        if name == "os.path.join":
            return arguments[-1]
        if name == "len":
            return Index(len(arguments[0]))
        if name == "range":
            return [Index(number) for number in range(*arguments)[:MAX_STEPS]]
        if name == "enumerate":
            return [(Index(i), item) for i, item in enumerate(arguments[0], *arguments[1:], **keywords)]
        if name == "str":
            return self._text(arguments[0])
        if name in ("copy.deepcopy", "deepcopy", "list"):
            return arguments[0]
        if name == "fetch_image":  # what it is asked for keeps its size
            return arguments[0]["image"] if isinstance(arguments[0], dict) else arguments[0]
        if isinstance(node.func, ast.Attribute):
            return self._method(self.value(node.func.value), node.func.attr, arguments, keywords, node)
        return Unknown(node.lineno)

    def _method(self, holder: Any, name: str, arguments: list, keywords: dict, node: ast.Call) -> Any:
        if isinstance(holder, str):
            if name == "format":
                return self._format(holder, arguments, keywords)
            if name == "replace":
                old, new = arguments
                if not old or holder.count(old) * len(new) > MAX_CHARS:
                    raise ValueError("too long")
                self.replaced.append((old, new))
                return holder.replace(old, new)
            if name == "join":
                return holder.join(self._text(item) for item in arguments[0])
            if name in _TEXT_METHODS:
                return getattr(holder, name)(*arguments)
        known = {dict: ("get", "copy"), list: ("append", "extend")}.get(type(holder), ())
        return getattr(holder, name)(*arguments) if name in known else Unknown(node.lineno)

    def _format(self, template: str, arguments: list, keywords: dict) -> str:
        """`str.format` with plain fields only: a width in a format could ask for gigabytes."""
        out, automatic = [], count()
        for literal, name, spec, conversion in string.Formatter().parse(template):
            out.append(literal)
            if name is None:
                continue
            if spec or conversion:
                raise ValueError("not a plain field")
            place = next(automatic) if name == "" else int(name) if name.isdigit() else None
            value = keywords[name] if place is None else arguments[place]
            out.append(self._text(value))
        return "".join(out)
