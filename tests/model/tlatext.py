"""The text of a TLA+ module as nested parts, by the TLA+ community's own grammar."""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import tree_sitter_tlaplus
from tree_sitter import Language, Node, Parser

# What the grammar marks and the meaning does not need: comments, separators, and the signs that tell one form from another.
_SIGNS = {
    "all_map_to", "block_comment", "bullet_conj", "bullet_disj", "comment", "def_eq", "extends", "header_line",
    "langle_bracket", "rangle_bracket", "set_in", "single_line", "double_line",
}  # fmt: skip


class UnknownTla(ValueError):
    """A text that is not TLA+, a part of TLA+ that is not evaluated here, or a name that nothing defines."""


class Part(NamedTuple):
    """A form of the grammar, its text, and the forms within it."""

    kind: str
    text: str
    parts: tuple["Part", ...]

    def all_of_it(self) -> Iterator["Part"]:
        """This part, and every part within it."""
        yield self
        for part in self.parts:
            yield from part.all_of_it()

    @property
    def operator(self) -> str | None:
        """The sign or name of what is applied here to other parts, if anything is."""
        if self.kind == "bound_infix_op":
            return self.parts[1].text
        if self.kind in ("bound_prefix_op", "bound_op"):
            return self.parts[0].text
        return {"bound_postfix_op": "'", "conj_list": "/\\", "disj_list": "\\/"}.get(self.kind)

    @property
    def arguments(self) -> tuple["Part", ...]:
        """What the operator is applied to."""
        if self.kind == "bound_infix_op":
            return self.parts[0], self.parts[2]
        if self.kind in ("bound_prefix_op", "bound_op"):
            return self.parts[1:]
        if self.kind in ("conj_list", "disj_list"):
            return tuple(item.parts[0] for item in self.parts)
        return self.parts[:1]


def units_of(text: str) -> tuple[Part, ...]:
    """The declarations, definitions and assumptions of a module. Raises `UnknownTla` for what is not TLA+, with its line."""
    with warnings.catch_warnings():
        # The grammar's package hands its language over as older releases of `tree_sitter` take it.
        warnings.simplefilter("ignore", DeprecationWarning)
        parser = Parser(Language(tree_sitter_tlaplus.language()))
    tree = parser.parse(text.encode())
    if tree.root_node.has_error:
        raise UnknownTla(f"line {_first_error(tree.root_node)} is not TLA+")
    (module,) = (node for node in tree.root_node.children if node.type == "module")
    return _part(module).parts


def _first_error(node: Node) -> int:
    bad = next((child for child in node.children if child.has_error or child.is_missing or child.is_error), None)
    return node.start_point.row + 1 if bad is None else _first_error(bad)


def _part(node: Node) -> Part:
    within = tuple(_part(child) for child in node.named_children if child.type not in _SIGNS)
    return Part(node.type, (node.text or b"").decode(), within)
