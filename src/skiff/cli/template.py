"""Go's text/template as docker's --format uses it: parse once, execute on JSON-like data.

Pure. Errors are Go's sentences, `template: NAME:LINE:COLUMN: executing "NAME" at <what>: why`: scripts
and people search for them. Loaded only when --format was given.
"""

from skiff.cli.template_functions import ALL as FUNCTIONS
from skiff.cli.template_functions import CallError, Function
from skiff.cli.template_lexer import TemplateError
from skiff.cli.template_parser import Node, Parser
from skiff.cli.template_values import NOTHING, Record, is_true, show, type_name
from skiff.docker.quoting import quoted

__all__ = ["Template", "TemplateError"]

MISSING = object()
DEEPEST = 60


class Template:
    """A parsed template. TemplateError if it cannot be."""

    def __init__(self, source: str, name: str = "", functions: dict[str, Function] | None = None) -> None:
        self.source = source
        self.name = name
        self.functions = FUNCTIONS | functions if functions else FUNCTIONS
        parser = Parser(source, name, self.functions)  # type: ignore[arg-type]
        self.body = parser.parse()
        self.defined = parser.defined

    def execute(self, data: object, *, strict: bool = False) -> str:
        """The text. strict: a missing map key is an error (missingkey=error), and values are untyped JSON."""
        out: list[str] = []
        try:
            _Run(self, out, data, strict).run(self.body, self.name, data)
        except TemplateError as error:
            error.written = "".join(out)
            raise
        return "".join(out)


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Run:
    def __init__(self, template: Template, out: list[str], data: object, strict: bool) -> None:
        self.template = template
        self.out = out
        self.strict = strict
        self.node: Node = Node("text", 0, 1)
        self.name = template.name
        self.variables: list[tuple[str, object]] = [("$", data)]
        self.depth = 0

    def run(self, body: list[Node], name: str, data: object) -> None:
        kept = self.name, self.variables
        self.name, self.variables = name, [("$", data)]
        self.walk_all(body, data)
        self.name, self.variables = kept

    def fail(self, message: str) -> TemplateError:
        node, source = self.node, self.template.source
        column = node.position - (source.rfind("\n", 0, node.position) + 1)
        line = 1 + source.count("\n", 0, node.position)
        place = f"template: {self.template.name}:{line}:{column}"
        return TemplateError(f"{place}: executing {quoted(self.name)} at <{node}>: {message}")

    # nodes

    def walk_all(self, nodes: list[Node], dot: object) -> None:
        for node in nodes:
            self.walk(node, dot)

    def walk(self, node: Node, dot: object) -> None:
        self.node = node
        match node.kind:
            case "text":
                self.out.append(node.text)
            case "action":
                pipe = node.value
                assert isinstance(pipe, Node)
                value = self.pipeline(pipe, dot)
                if not pipe.names:
                    self.node = node
                    if callable(value):
                        raise self.fail(f"can't print {node} of type {type_name(value)}")
                    self.out.append(show(value))
            case "if" | "with":
                self.branch(node, dot)
            case "range":
                self.range(node, dot)
            case "template":
                self.call_template(node, dot)
            case "break":
                raise _Break
            case "continue":
                raise _Continue

    def branch(self, node: Node, dot: object) -> None:
        assert isinstance(node.value, Node)
        mark = len(self.variables)
        value = self.pipeline(node.value, dot)
        if is_true(value):
            self.walk_all(node.parts, value if node.kind == "with" else dot)
        else:
            self.walk_all(node.otherwise, dot)
        del self.variables[mark:]

    def range(self, node: Node, dot: object) -> None:
        pipe = node.value
        assert isinstance(pipe, Node)
        mark = len(self.variables)
        value = self.pipeline(pipe, dot)
        reached, self.node = self.node, node
        pairs: list[tuple[object, object]]
        if isinstance(value, int) and not isinstance(value, bool):
            if len(pipe.names) > 1:
                raise self.fail(f"can't use {show(value)} to iterate over more than one variable")
            pairs = [(i, i) for i in range(min(value, 1_000_000))]
        elif isinstance(value, list):
            pairs = list(enumerate(value))
        elif isinstance(value, dict) and not isinstance(value, Record):
            pairs = [(key, value[key]) for key in sorted(value)]
        elif value is None or value is NOTHING:
            pairs = []
        else:
            self.node = reached
            raise self.fail(f"range can't iterate over {show(value)}")
        inner = len(self.variables)
        for key, element in pairs:
            if pipe.names:
                last = pipe.names[-1]
                self.assign(last, element) if pipe.assigns else self.put(
                    len(self.variables) - 1, last, element
                )
            if len(pipe.names) > 1:
                first = pipe.names[0]
                self.assign(first, key) if pipe.assigns else self.put(len(self.variables) - 2, first, key)
            try:
                self.walk_all(node.parts, element)
            except _Break:
                break
            except _Continue:
                pass
            finally:
                del self.variables[inner:]
        if not pairs:
            self.walk_all(node.otherwise, dot)
        del self.variables[mark:]

    def call_template(self, node: Node, dot: object) -> None:
        body = self.template.defined.get(node.text)
        if body is None:
            raise self.fail(f"template {quoted(node.text)} not defined")
        if self.depth == DEEPEST:
            raise self.fail("exceeded maximum template depth (100000)")
        self.depth += 1
        value = self.pipeline(node.value, dot) if isinstance(node.value, Node) else NOTHING
        self.run(body, node.text, value)
        self.depth -= 1

    # pipelines

    def put(self, index: int, name: str, value: object) -> None:
        self.variables[index] = (name, value)

    def assign(self, name: str, value: object) -> None:
        for index in range(len(self.variables) - 1, -1, -1):
            if self.variables[index][0] == name:
                self.variables[index] = (name, value)
                return
        raise self.fail(f"undefined variable: {name}")

    def pipeline(self, pipe: Node, dot: object) -> object:
        self.node = pipe
        value: object = MISSING
        for command in pipe.parts:
            value = self.command(command, dot, value)
        for name in pipe.names:
            if pipe.assigns:
                self.assign(name, value)
            else:
                self.variables.append((name, value))
        return value

    def command(self, command: Node, dot: object, final: object) -> object:
        first = command.parts[0]
        arguments = command.parts[1:]
        self.node = first
        match first.kind:
            case "field":
                return self.fields(dot, dot, first, first.names, arguments, final)
            case "chain":
                return self.chain(first, dot, arguments, final)
            case "identifier":
                return self.call(
                    self.template.functions[first.text], first.text, command, dot, arguments, final
                )
            case "variable":
                return self.variable(first, dot, arguments, final)
        if arguments or final is not MISSING:
            raise self.fail(f"can't give argument to non-function {first}")
        if first.kind == "nil":
            raise self.fail("nil is not a command")
        return self.plain(first, dot)

    def plain(self, node: Node, dot: object) -> object:
        """An operand that takes no arguments."""
        self.node = node
        match node.kind:
            case "pipe":
                return self.pipeline(node, dot)
            case "dot":
                return dot
            case "nil":
                return None
            case "field":
                return self.fields(dot, dot, node, node.names, [], MISSING)
            case "chain":
                return self.chain(node, dot, [], MISSING)
            case "variable":
                return self.variable(node, dot, [], MISSING)
            case "identifier":
                return self.call(self.template.functions[node.text], node.text, node, dot, [], MISSING)
        return node.value

    def chain(self, node: Node, dot: object, arguments: list[Node], final: object) -> object:
        if node.parts[0].kind == "nil":
            raise self.fail(f"indirection through explicit nil in {node}")
        inner = self.plain(node.parts[0], dot)
        return self.fields(dot, inner, node, node.names, arguments, final, keeps_node=True)

    def variable(self, node: Node, dot: object, arguments: list[Node], final: object) -> object:
        value: object = NOTHING
        for name, held in reversed(self.variables):
            if name == node.names[0]:
                value = held
                break
        if len(node.names) == 1:
            if arguments or final is not MISSING:
                raise self.fail(f"can't give argument to non-function {node}")
            return value
        return self.fields(dot, value, node, node.names[1:], arguments, final)

    def fields(
        self,
        dot: object,
        receiver: object,
        node: Node,
        names: list[str],
        arguments: list[Node],
        final: object,
        *,
        keeps_node: bool = False,
    ) -> object:
        if not keeps_node:
            self.node = node
        for index, name in enumerate(names):
            last = index == len(names) - 1
            receiver = self.field(
                dot, receiver, name, arguments if last else [], final if last else MISSING, deep=index > 0
            )
        return receiver

    def field(
        self, dot: object, receiver: object, name: str, arguments: list[Node], final: object, *, deep: bool
    ) -> object:
        has_arguments = bool(arguments) or final is not MISSING
        if receiver is NOTHING:
            if self.strict and deep:
                raise self.fail(f"nil pointer evaluating interface {{}}.{name}")
            if self.strict:
                raise self.fail(f"nil data; no entry for key {quoted(name)}")
            return NOTHING
        if receiver is None:
            raise self.fail(f"nil pointer evaluating {'interface {}' if self.strict else '*struct'}.{name}")
        if isinstance(receiver, Record):
            value = receiver.get(name, MISSING)
            if callable(value):
                return self.method(value, name, dot, arguments, final)
            if value is not MISSING:
                if has_arguments and receiver.has_methods:
                    given = len(arguments) + (final is not MISSING)
                    raise self.fail(f"wrong number of args for {name}: want 0 got {given}")
                if has_arguments:
                    raise self.fail(f"{name} has arguments but cannot be invoked as function")
                return value
        elif isinstance(receiver, dict):
            if has_arguments:
                raise self.fail(f"{name} is not a method but has arguments")
            if name in receiver:
                return self.untyped(receiver[name])
            if self.strict:
                raise self.fail(f"map has no entry for key {quoted(name)}")
            return NOTHING
        kind = "interface {}" if self.strict and deep else type_name(receiver)
        raise self.fail(f"can't evaluate field {name} in type {kind}")

    def untyped(self, value: object) -> object:
        """A nil interface has no value; a nil pointer is one."""
        return NOTHING if value is None and self.strict else value

    def method(self, method: object, name: str, dot: object, arguments: list[Node], final: object) -> object:
        assert callable(method)
        given = len(arguments) + (final is not MISSING)
        if given != 1:
            raise self.fail(f"wrong number of args for {name}: want 1 got {given}")
        values = [self.argument("string", argument, dot) for argument in arguments]
        if final is not MISSING:
            values.append(self.checked("string", final))
        return method(*values)

    # functions

    def call(
        self, function: Function, name: str, node: Node, dot: object, arguments: list[Node], final: object
    ) -> object:
        count = len(arguments) + (final is not MISSING)
        fixed = len(function.kinds) - function.is_variadic
        if count < fixed or (count > fixed and not function.is_variadic):
            least = "at least " if function.is_variadic else ""
            raise self.fail(f"wrong number of args for {name}: want {least}{fixed} got {count}")
        if name in ("and", "or"):
            return self.logic(name, dot, arguments, final)
        values = [self.argument(function.kind(i), argument, dot) for i, argument in enumerate(arguments)]
        if final is not MISSING:
            values.append(self.checked(function.kind(len(arguments)), final))
        try:
            if name == "call":
                shown = arguments[0] if arguments else node
                raise CallError(
                    "call of nil"
                    if values[0] is None
                    else f"non-function {shown} of type {type_name(values[0])}"
                )
            return function.act(*values)
        except CallError as error:
            self.node = node
            raise self.fail(f"error calling {name}: {error}") from None

    def logic(self, name: str, dot: object, arguments: list[Node], final: object) -> object:
        value: object = NOTHING
        for argument in arguments:
            value = self.plain(argument, dot)
            if is_true(value) == (name == "or"):
                return value
        return value if final is MISSING else final

    def argument(self, kind: str, node: Node, dot: object) -> object:
        self.node = node
        if node.kind in ("bool", "number", "string", "nil") and kind != "any":
            wanted = {"string": "string", "int": "integer"}.get(kind)
            if node.kind == "nil":
                raise self.fail(f"cannot assign nil to {kind}")
            fits = (kind == "string" and node.kind == "string") or (
                kind == "int" and isinstance(node.value, int)
            )
            if wanted is None:
                raise self.fail(f"can't handle {node} for arg of type {kind}")
            if not fits or isinstance(node.value, bool):
                raise self.fail(f"expected {wanted}; found {node}")
            return node.value
        return self.checked(kind, self.plain(node, dot))

    def checked(self, kind: str, value: object) -> object:
        if kind == "any":
            return value
        fits = (
            isinstance(value, str)
            if kind == "string"
            else isinstance(value, int) and not isinstance(value, bool)
            if kind == "int"
            else isinstance(value, list) and all(isinstance(item, str) for item in value)
        )
        if fits:
            return value
        if value is NOTHING:
            if kind == "string" and not self.strict:
                raise self.fail("invalid value; expected string")
            raise self.fail(f"invalid value; expected {kind}")
        raise self.fail(f"wrong type for value; expected {kind}; got {type_name(value)}")
