"""Expressions of TLA+: what has a value in one state. Whatever is not listed here is refused, never guessed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import Any, TypeAlias

from tests.model.tlatext import Part, UnknownTla, units_of
from tests.model.tlavalues import INFIX, Bound, Naturals, State, Value, applied, function

Expression: TypeAlias = Callable[[State, Bound], Value]
Ranging: TypeAlias = Callable[[State, Bound], Iterator[Bound]]

_JOINING = {"/\\": all, "\\/": any}
_OF_THE_NEXT_STATE = ("'", "UNCHANGED")


class Expressions:
    """A module's definitions with values for its constants. Raises `UnknownTla` for what cannot be evaluated."""

    def __init__(self, text: str, constants: Mapping[str, Value]) -> None:
        units = units_of(text)
        self._constants = constants
        self._definitions = {unit.parts[0].text: unit for unit in units if unit.kind == "operator_definition"}
        self.variables = tuple(_declared(units, "variable_declaration"))
        self._places = {name: place for place, name in enumerate(self.variables)}
        self._compiled: dict[str, Expression] = {}
        if wrong := set(_declared(units, "constant_declaration")) ^ set(constants):
            raise UnknownTla(f"constants without a value, or values without a constant: {sorted(wrong)}")
        for unit in units:
            if unit.kind == "assumption" and not self._expression(unit.parts[0])((), {}):
                raise UnknownTla("the constants are not what the module assumes")

    # Definitions, and the names in them.

    def _defined(self, name: str) -> Expression:
        if name not in self._compiled:
            if name not in self._definitions:
                raise UnknownTla(f"nothing defines {name}")
            # Known before it is compiled: it may name itself.
            self._compiled[name] = lambda state, bound: self._compiled[name](state, bound)
            self._compiled[name] = self._remembered(self._definitions[name].parts[-1])
        return self._compiled[name]

    def _remembered(self, body: Part) -> Expression:
        """A definition's value depends on its arguments and the variables that it reads: found out once for each of these."""
        inner, known = self._expression(body), dict[Any, Value]()
        places = [self._places[one] for one in self._mentioned(body) & self._places.keys()]

        def value(state: State, bound: Bound) -> Value:
            key = (*[state[place] for place in places], *bound.values())
            if key not in known:
                known[key] = inner(state, bound)
            return known[key]

        return value

    def _mentioned(self, part: Part) -> set[str]:
        """Every name and operator in a part, and in what the module defines these by."""
        found: set[str] = set()
        waiting = [part]
        while waiting:
            every = list(waiting.pop().all_of_it())
            names = {one.text for one in every if one.kind == "identifier_ref"}
            waiting += [self._definitions[name].parts[-1] for name in (names - found) & self._definitions.keys()]
            found |= names | {one.operator for one in every if one.operator}
        return found

    def _is_action(self, part: Part) -> bool:
        """Whether a part speaks of the state after a step, by itself or through the name of an action."""
        return not self._mentioned(part).isdisjoint(_OF_THE_NEXT_STATE)

    def _parameters(self, name: str, arguments: Iterable[Part]) -> Callable[[State, Bound], Bound]:
        """What an operator sees of its surroundings: its arguments alone."""
        names = [one.text for one in self._definitions[name].parts[1:-1]]
        values = list(zip(names, map(self._expression, arguments), strict=True))
        return lambda state, bound: {name: value(state, bound) for name, value in values}

    def _named(self, name: str) -> Expression:
        """A name alone; what is bound around it hides what the module calls so."""
        if name in self._places:
            place = self._places[name]
            return lambda state, bound: bound[name] if name in bound else state[place]
        if name in self._constants:
            return _always(self._constants[name])
        if name in self._definitions:
            inner = self._defined(name)
            return lambda state, bound: bound[name] if name in bound else inner(state, {})
        return lambda _, bound: bound[name]

    # Expressions: what has a value in one state.

    def _expression(self, part: Part) -> Expression:
        if part.operator:
            return self._applying(part.operator, part.arguments)
        compiler = getattr(self, f"_{part.kind}", None)
        if compiler is None:
            raise UnknownTla(f"{part.kind} is not evaluated here: {part.text}")
        compiled: Expression = compiler(part)
        return compiled

    def _applying(self, name: str, parts: tuple[Part, ...]) -> Expression:
        if name in self._definitions:
            inner, given = self._defined(name), self._parameters(name, parts)
            return lambda state, bound: inner(state, given(state, bound))
        arguments = [self._expression(one) for one in parts]
        if name in _JOINING:
            each = _JOINING[name]
            return lambda state, bound: each(one(state, bound) for one in arguments)
        if name == "=>":
            return lambda state, bound: not arguments[0](state, bound) or arguments[1](state, bound)
        if name in INFIX:
            meaning, (left, right) = INFIX[name], arguments
            return lambda state, bound: meaning(left(state, bound), right(state, bound))
        if name == "Cardinality":
            return lambda state, bound: len(arguments[0](state, bound))
        if name == "~":
            return lambda state, bound: not arguments[0](state, bound)
        raise UnknownTla(f"{name} is not evaluated here")

    def _identifier_ref(self, part: Part) -> Expression:
        return self._named(part.text)

    def _prev_func_val(self, _part: Part) -> Expression:
        return self._named("@")

    def _nat_number(self, part: Part) -> Expression:
        return _always(int(part.text))

    def _nat_number_set(self, _part: Part) -> Expression:
        return _always(Naturals())

    def _string(self, part: Part) -> Expression:
        return _always(part.text.strip('"'))

    def _boolean(self, part: Part) -> Expression:
        return _always(part.text == "TRUE")

    def _parentheses(self, part: Part) -> Expression:
        return self._expression(part.parts[0])

    def _if_then_else(self, part: Part) -> Expression:
        asked, then, other = map(self._expression, part.parts)
        return lambda state, bound: then(state, bound) if asked(state, bound) else other(state, bound)

    def _let_in(self, part: Part) -> Expression:
        bind, inner = self._let(part), self._expression(part.parts[-1])
        return lambda state, bound: inner(state, bind(state, bound))

    def _let(self, part: Part) -> Callable[[State, Bound], Bound]:
        if any(len(one.parts) != 2 for one in part.parts[:-1]):
            raise UnknownTla(f"a LET with parameters is not evaluated here: {part.text}")
        values = [(one.parts[0].text, self._expression(one.parts[1])) for one in part.parts[:-1]]

        def bind(state: State, bound: Bound) -> Bound:
            for name, value in values:
                bound = {**bound, name: value(state, bound)}
            return bound

        return bind

    def _finite_set_literal(self, part: Part) -> Expression:
        items = [self._expression(item) for item in part.parts]
        return lambda state, bound: frozenset(item(state, bound) for item in items)

    def _set_filter(self, part: Part) -> Expression:
        return self._those(part.parts[0].parts, part.parts[1])

    def _choose(self, part: Part) -> Expression:
        among = self._those(part.parts[:2], part.parts[2])
        return lambda state, bound: min(among(state, bound))

    def _those(self, bound_in: tuple[Part, ...], such: Part) -> Expression:
        """The elements of a set of which something is true."""
        (name, many), inner = (bound_in[0].text, self._expression(bound_in[1])), self._expression(such)
        return lambda state, bound: frozenset(one for one in many(state, bound) if inner(state, {**bound, name: one}))

    def _bounded_quantification(self, part: Part) -> Expression:
        quantifier, *bounds, such = part.parts
        each, ranging, inner = (
            {"forall": all, "exists": any}[quantifier.kind],
            self._ranging(bounds),
            self._expression(such),
        )
        return lambda state, bound: each(inner(state, one) for one in ranging(state, bound))

    def _ranging(self, bounds: Iterable[Part]) -> Ranging:
        """The ways to bind names that are each declared to be in a set."""
        parts = [(one.parts[0].text, self._expression(one.parts[1])) for one in bounds]

        def ranging(state: State, bound: Bound) -> Iterator[Bound]:
            for values in product(*(part(state, bound) for _, part in parts)):
                yield {**bound, **{name: value for (name, _), value in zip(parts, values, strict=True)}}

        return ranging

    def _function_literal(self, part: Part) -> Expression:
        (bounds, value), name = part.parts, part.parts[0].parts[0].text
        ranging, inner = self._ranging([bounds]), self._expression(value)
        return lambda state, bound: function((one[name], inner(state, one)) for one in ranging(state, bound))

    def _record_literal(self, part: Part) -> Expression:
        names, values = part.parts[::2], map(self._expression, part.parts[1::2])
        fields = [(name.text, value) for name, value in zip(names, values, strict=True)]
        return lambda state, bound: function((name, value(state, bound)) for name, value in fields)

    def _record_value(self, part: Part) -> Expression:
        whole, name = self._expression(part.parts[0]), part.parts[1].text
        return lambda state, bound: applied(whole(state, bound), name)

    def _function_evaluation(self, part: Part) -> Expression:
        whole, argument = map(self._expression, part.parts)
        return lambda state, bound: applied(whole(state, bound), argument(state, bound))

    def _except(self, part: Part) -> Expression:
        whole, update = part.parts  # one change of one argument is all that is evaluated here
        specifier, changed = update.parts
        ((place,),) = (one.parts for one in specifier.parts)
        of, where, into = self._expression(whole), self._expression(place), self._expression(changed)

        def value(state: State, bound: Bound) -> Value:
            old, at = of(state, bound), where(state, bound)
            new = into(state, {**bound, "@": applied(old, at)})
            return tuple((known, new if known == at else one) for known, one in old)

        return value


def _declared(units: Iterable[Part], kind: str) -> Iterator[str]:
    return (name.text for unit in units if unit.kind == kind for name in unit.parts)


def _always(value: Value) -> Expression:
    return lambda _state, _bound: value
