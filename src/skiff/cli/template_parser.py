"""Tokens of a Go text/template → its tree.

Pure. Each node keeps where it began and can say itself again (`str(node)`): error messages quote it.

    action   = "{{" pipeline "}}"
    pipeline = [ variable { "," variable } ( ":=" | "=" ) ] command { "|" command }
    command  = operand { space operand }
    operand  = term { ".field" }
    term     = constant | "." | ".field" | "$variable" | function | "(" pipeline ")"
"""

from skiff.cli.template_lexer import Lexer, TemplateError, Token, number, unquoted
from skiff.docker.quoting import quoted


class Node:
    """kind: text, action, if, range, with, template, break, continue, pipe, command, and the operands
    field, variable, chain, identifier, number, string, bool, dot, nil.
    """

    __slots__ = (
        "assigns",
        "declares",
        "kind",
        "line",
        "names",
        "otherwise",
        "parts",
        "position",
        "text",
        "value",
    )

    def __init__(self, kind: str, position: int, line: int, text: str = "") -> None:
        self.kind = kind
        self.position = position
        self.line = line
        self.text = text
        self.names: list[str] = []  # field names; the variables a pipe declares
        self.parts: list[Node] = []  # commands of a pipe, operands of a command, body of a block
        self.otherwise: list[Node] = []
        self.assigns = False
        self.declares = False
        self.value: object = None  # a constant; the pipe of a block

    def __str__(self) -> str:
        match self.kind:
            case "pipe":
                heads = ", ".join(self.names) + (" = " if self.assigns else " := ") if self.names else ""
                return heads + " | ".join(map(str, self.parts))
            case "command":
                return " ".join(f"({part})" if part.kind == "pipe" else str(part) for part in self.parts)
            case "chain":
                inner = self.parts[0]
                return (f"({inner})" if inner.kind == "pipe" else str(inner)) + "".join(
                    f".{n}" for n in self.names
                )
            case "field":
                return "".join(f".{name}" for name in self.names)
            case "variable":
                return ".".join(self.names)
            case "template":
                return "{{template " + quoted(self.text) + (f" {self.value}" if self.value else "") + "}}"
            case "end" | "else":
                return "{{" + self.kind + "}}"
        return self.text


CONSTANTS = ("bool", "char", "dot", "field", "identifier", "number", "nil", "string", "variable", "(")
DEEPEST = 200


class Parser:
    """functions: the names a template may call."""

    def __init__(self, source: str, name: str, functions: "frozenset[str] | dict[str, object]") -> None:
        self.lexer = Lexer(source, name)
        self.stream = self.lexer.tokens()
        self.pushed: list[Token] = []
        self.functions = functions
        self.variables = ["$"]
        self.defined: dict[str, list[Node]] = {}
        self.ranges = 0
        self.depth = 0
        self.line = 1

    def parse(self) -> list[Node]:
        """The main body; `defined` has the named ones afterwards. Raises TemplateError."""
        body = []
        while self.peek().kind != "eof":
            node = self.definition_or_node()
            if node is None:
                continue
            if node.kind in ("end", "else"):
                raise self.fail(f"unexpected {node}")
            body.append(node)
        return body

    # tokens

    def next(self) -> Token:
        token: Token = self.pushed.pop() if self.pushed else next(self.stream)
        self.line = token.line
        return token

    def back(self, *tokens: Token) -> None:
        """Put tokens back; the last given is read first."""
        self.pushed.extend(tokens)

    def peek(self) -> Token:
        token = self.next()
        self.back(token)
        return token

    def next_word(self) -> Token:
        token = self.next()
        while token.kind == "space":
            token = self.next()
        return token

    def peek_word(self) -> Token:
        token = self.next_word()
        self.back(token)
        return token

    def fail(self, message: str) -> TemplateError:
        return TemplateError(f"template: {self.lexer.name}:{self.line}: {message}")

    def unexpected(self, token: Token, context: str) -> TemplateError:
        return self.fail(f"unexpected {token} in {context}")

    def expect(self, kind: str, context: str) -> Token:
        token = self.next_word()
        if token.kind != kind:
            raise self.unexpected(token, context)
        return token

    # blocks

    def definition_or_node(self) -> Node | None:
        token = self.next()
        if token.kind == "left":
            word = self.next_word()
            if word.kind == "keyword" and word.text == "define":
                self.define()
                return None
            self.back(word)
        self.back(token)
        return self.node()

    def define(self) -> None:
        name = self.template_name("define clause")
        self.expect("right", "define clause")
        kept, self.variables = self.variables, ["$"]
        ranges, self.ranges = self.ranges, 0
        body, closing = self.body()
        self.variables, self.ranges = kept, ranges
        if closing.kind != "end":
            raise self.fail(f"unexpected {closing} in define clause")
        self.add(name, body)

    def add(self, name: str, body: list[Node]) -> None:
        if self.defined.get(name):
            raise self.fail(f"template: multiple definition of template {quoted(name)}")
        self.defined[name] = body

    def template_name(self, context: str) -> str:
        token = self.next_word()
        if token.kind != "string":
            raise self.unexpected(token, context)
        return self.unquote(token)

    def unquote(self, token: Token) -> str:
        text = unquoted(token.text)
        if text is None:
            raise self.fail("invalid syntax")
        return text

    def node(self) -> Node:
        token = self.next()
        if token.kind == "text":
            return Node("text", token.position, token.line, token.text)
        if token.kind == "left":
            return self.action()
        raise self.unexpected(token, "input")

    def body(self) -> tuple[list[Node], Node]:
        """Nodes up to {{end}} or {{else}}, and that one."""
        self.enter()
        nodes: list[Node] = []
        while self.peek().kind != "eof":
            node = self.node()
            if node.kind in ("end", "else"):
                self.depth -= 1
                return nodes, node
            nodes.append(node)
        raise self.fail("unexpected EOF")

    def enter(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.fail("max expression depth exceeded")

    def action(self) -> Node:
        token = self.next_word()
        if token.kind == "keyword":
            word = token.text
            if word in ("if", "range", "with"):
                return self.control(word, token)
            if word in ("break", "continue"):
                self.expect("right", "{{" + word + "}}")
                if not self.ranges:
                    raise self.fail("{{" + word + "}} outside {{range}}")
                return Node(word, token.position, token.line)
            if word == "end":
                self.expect("right", "end")
                return Node("end", token.position, token.line)
            if word == "else":
                following = self.peek_word()
                if not (following.kind == "keyword" and following.text in ("if", "with")):
                    self.expect("right", "else")
                return Node("else", token.position, token.line)
            if word == "template":
                return self.template(token)
            if word == "block":
                return self.block(token)
            raise self.unexpected(token, "command")
        self.back(token)
        first = self.peek_word()
        node = Node("action", first.position, first.line)
        node.value = pipe = self.pipeline("command", "right")
        node.text = "{{" + str(pipe) + "}}"
        return node

    def control(self, word: str, token: Token) -> Node:
        node = Node(word, token.position, token.line)
        visible = len(self.variables)
        node.value = self.pipeline(word, "right")
        self.ranges += word == "range"
        node.parts, closing = self.body()
        self.ranges -= word == "range"
        if closing.kind == "else":
            following = self.peek_word()
            if following.kind == "keyword" and following.text == word and word != "range":
                self.enter()
                node.otherwise = [self.control(word, self.next_word())]
                self.depth -= 1
                del self.variables[visible:]
                return node
            node.otherwise, closing = self.body()
            if closing.kind != "end":
                raise self.fail(f"expected end; found {closing}")
        del self.variables[visible:]
        return node

    def template(self, token: Token) -> Node:
        name_token = self.peek_word()
        node = Node("template", name_token.position, token.line, self.template_name("template clause"))
        following = self.next_word()
        if following.kind != "right":
            self.back(following)
            node.value = self.pipeline("template clause", "right")
        return node

    def block(self, token: Token) -> Node:
        node = Node("template", token.position, token.line, self.template_name("block clause"))
        node.value = self.pipeline("block clause", "right")
        kept, self.variables = self.variables, ["$"]
        ranges, self.ranges = self.ranges, 0
        body, closing = self.body()
        self.variables, self.ranges = kept, ranges
        if closing.kind != "end":
            raise self.fail(f"unexpected {closing} in block clause")
        self.add(node.text, body)
        return node

    # expressions

    def pipeline(self, context: str, closing: str) -> Node:
        self.enter()
        first = self.peek_word()
        pipe = Node("pipe", first.position, first.line)
        self.declarations(pipe, context)
        while True:
            token = self.next_word()
            if token.kind == closing:
                break
            if token.kind not in CONSTANTS:
                raise self.unexpected(token, context)
            self.back(token)
            pipe.parts.append(self.command())
        if not pipe.parts:
            raise self.fail(f"missing value for {context}")
        for stage, command in enumerate(pipe.parts[1:], 2):
            if command.parts[0].kind in ("bool", "dot", "nil", "number", "string"):
                raise self.fail(f"non executable command in pipeline stage {stage}")
        self.depth -= 1
        return pipe

    def declarations(self, pipe: Node, context: str) -> None:
        while True:
            token = self.next_word()
            if token.kind != "variable":
                self.back(token)
                return
            after = self.next()
            mark = after if after.kind != "space" else self.next_word()
            if mark.kind in ("=", ":="):
                pipe.assigns = mark.kind == "="
                pipe.names.append(token.text)
                self.variables.append(token.text)
                return
            if mark.kind != ",":
                self.back(mark, *((after,) if after is not mark else ()), token)
                return
            pipe.names.append(token.text)
            self.variables.append(token.text)
            if context != "range" or len(pipe.names) > 1:
                raise self.fail(f"too many declarations in {context}")
            if self.peek_word().kind not in ("variable", "right", ")"):
                raise self.fail("range can only initialize variables")

    def command(self) -> Node:
        first = self.peek_word()
        command = Node("command", first.position, first.line)
        while True:
            self.peek_word()
            operand = self.operand()
            if operand:
                command.parts.append(operand)
            token = self.next()
            if token.kind == "space":
                continue
            if token.kind in ("right", ")"):
                self.back(token)
            elif token.kind != "|":
                raise self.unexpected(token, "operand")
            break
        if not command.parts:
            raise self.fail("empty command")
        return command

    def operand(self) -> Node | None:
        node = self.term()
        if node is None:
            return None
        following = self.peek()
        if following.kind != "field":
            return node
        names = []
        while self.peek().kind == "field":
            names.append(self.next().text[1:])
        if node.kind in ("field", "variable"):
            longer = Node(node.kind, following.position, node.line)
            longer.names = node.names + names
            return longer
        if node.kind in ("bool", "string", "number", "nil", "dot"):
            raise self.fail(f"unexpected . after term {quoted(str(node))}")
        chain = Node("chain", following.position, node.line)
        chain.parts, chain.names = [node], names
        return chain

    def term(self) -> Node | None:
        token = self.next_word()
        node = Node(token.kind, token.position, token.line, token.text)
        match token.kind:
            case "identifier":
                if token.text not in self.functions:
                    raise self.fail(f"function {quoted(token.text)} not defined")
            case "dot" | "nil":
                pass
            case "bool":
                node.value = token.text == "true"
            case "variable":
                if token.text not in self.variables:
                    raise self.fail(f"undefined variable {quoted(token.text)}")
                node.names = [token.text]
            case "field":
                node.names = [token.text[1:]]
            case "number":
                node.value = value = number(token.text)
                if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
                    raise self.fail(f"integer overflow: {quoted(token.text)}")
            case "char":
                text = unquoted(token.text)
                if text is None or len(text) != 1:
                    raise self.fail(f"malformed character constant: {token.text}")
                node.kind, node.value = "number", ord(text)
            case "string":
                node.value = self.unquote(token)
            case "(":
                node = self.pipeline("parenthesized pipeline", ")")
            case _:
                self.back(token)
                return None
        return node
