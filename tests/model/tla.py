"""As much of TLA+ as `docs/leases.tla` is written in, evaluated: what a specification allows to begin with, and after any state.

What the forms mean is Lamport's, "Specifying Systems", chapters 15 and 16. An action is evaluated as TLC does it, from left to
right: a primed variable is given its value where it is first met, and compared from then on. Whatever is not listed here is
refused, never guessed. Values are integers, booleans, strings, frozen sets, and functions; a record is a function of its
fields' names, as in the book.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import Any, TypeAlias

from tests.model.tlatext import Part, UnknownTla, units_of

Value: TypeAlias = Any
State: TypeAlias = tuple[Value, ...]
Bound: TypeAlias = Mapping[str, Value]
Expression: TypeAlias = Callable[[State, Bound], Value]
Assigned: TypeAlias = Mapping[str, Value]
Action: TypeAlias = Callable[[State, Bound, Assigned], Iterator[Assigned]]
Ranging: TypeAlias = Callable[[State, Bound], Iterator[Bound]]


def function(pairs: Iterable[tuple[Value, Value]]) -> Value:
    """A function, or a record, by its arguments and values."""
    return tuple(sorted(pairs))


def applied(whole: Value, argument: Value) -> Value:
    """A function's value. Raises `UnknownTla` outside of its domain."""
    for known, value in whole:
        if known == argument:
            return value
    raise UnknownTla(f"{argument!r} is not in the domain of {whole!r}")


class Naturals:
    """`Nat`, without some numbers: it has no end, so all that can be asked is what is in it."""

    def __init__(self, without: frozenset[int] = frozenset()) -> None:
        self._without = without

    def __contains__(self, value: object) -> bool:
        return type(value) is int and value >= 0 and value not in self._without

    def __sub__(self, some: frozenset[int]) -> "Naturals":
        return Naturals(self._without | some)


_INFIX: dict[str, Callable[[Value, Value], Value]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "<": operator.lt, ">": operator.gt, "<=": operator.le,
    ">=": operator.ge, "=": operator.eq, "#": operator.ne, "\\": operator.sub, "\\cup": operator.or_,
    "\\in": lambda one, many: one in many, "\\notin": lambda one, many: one not in many,
    "\\subseteq": lambda some, many: all(one in many for one in some),
    "..": lambda low, high: frozenset(range(low, high + 1)),
}  # fmt: skip
_JOINING = {"/\\": all, "\\/": any}
_OF_THE_NEXT_STATE = ("'", "UNCHANGED")


class Specification:
    """A module with values for its constants. Raises `UnknownTla` for what cannot be evaluated."""

    def __init__(self, text: str, constants: Mapping[str, Value]) -> None:
        units = units_of(text)
        self._constants = constants
        self._definitions = {unit.parts[0].text: unit for unit in units if unit.kind == "operator_definition"}
        self.variables = tuple(_declared(units, "variable_declaration"))
        self._places = {name: place for place, name in enumerate(self.variables)}
        self._compiled: dict[str, Expression] = {}
        self._actions: dict[str, Action] = {}
        if wrong := set(_declared(units, "constant_declaration")) ^ set(constants):
            raise UnknownTla(f"constants without a value, or values without a constant: {sorted(wrong)}")
        for unit in units:
            if unit.kind == "assumption" and not self._expression(unit.parts[0])((), {}):
                raise UnknownTla("the constants are not what the module assumes")

    def initial(self, name: str = "Init") -> set[State]:
        """The states that a predicate allows to begin with."""
        allowed = self._action(self._definitions[name].parts[-1], primed=False)
        return {self._whole(one) for one in allowed((), {}, {})}

    def following(self, state: State, name: str = "Next") -> Iterator[State]:
        """Every step that an action allows in a state, as the state after it; one for each way to it."""
        return map(self._whole, self._defined_action(name)(state, {}, {}))

    def holds(self, name: str, state: State) -> bool:
        """Whether a definition is true of a state."""
        return self._defined(name)(state, {}) is True

    def _whole(self, assigned: Assigned) -> State:
        if missing := [name for name in self.variables if name not in assigned]:
            raise UnknownTla(f"a step does not say what becomes of {missing}")
        return tuple(assigned[name] for name in self.variables)

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
        if name in _INFIX:
            meaning, (left, right) = _INFIX[name], arguments
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

    # Actions: what relates a state to the one after it.

    def _defined_action(self, name: str) -> Action:
        if name not in self._actions:
            self._actions[name] = self._action(self._definitions[name].parts[-1])
        return self._actions[name]

    def _action(self, part: Part, *, primed: bool = True) -> Action:
        name = part.operator
        if name == "/\\":
            return self._in_turn(list(_conjuncts(part)), primed=primed)
        if name == "\\/":
            return _either([self._action(one, primed=primed) for one in part.arguments])
        if name == "UNCHANGED":
            return self._unchanged(list(self._variables_in(part.arguments[0])))
        if name == "=" and (variable := self._assignable(part.arguments[0], primed=primed)):
            return _assigned(variable, self._expression(part.arguments[1]))
        if part.kind == "bounded_quantification" and part.parts[0].kind == "exists":
            return _for_some(self._ranging(part.parts[1:-1]), self._action(part.parts[-1], primed=primed))
        if part.kind == "let_in":
            bind, inner = self._let(part), self._action(part.parts[-1], primed=primed)
            return lambda state, bound, assigned: inner(state, bind(state, bound), assigned)
        if name in self._definitions and self._is_action(part):
            called, given = self._defined_action(name), self._parameters(name, part.arguments)
            return lambda state, bound, assigned: called(state, given(state, bound), assigned)
        return _only_if(self._expression(part))

    def _in_turn(self, parts: list[Part], *, primed: bool) -> Action:
        """Each part over what those before it assigned. What only asks comes first: most often it says no."""
        first = next((at for at, part in enumerate(parts) if not primed or self._is_action(part)), len(parts))
        guards = [self._expression(part) for part in parts[:first]]
        actions = [self._action(part, primed=primed) for part in parts[first:]]

        def action(state: State, bound: Bound, assigned: Assigned) -> Iterator[Assigned]:
            for guard in guards:
                if not guard(state, bound):
                    return
            ways: Iterable[Assigned] = (assigned,)
            for one in actions:
                ways = [after for before in ways for after in one(state, bound, before)]
            yield from ways

        return action

    def _unchanged(self, names: list[str]) -> Action:
        places = [(name, self._places[name]) for name in names]

        def action(state: State, _bound: Bound, assigned: Assigned) -> Iterator[Assigned]:
            kept = {name: state[place] for name, place in places}
            if all(kept.get(name, value) == value for name, value in assigned.items()):
                yield {**assigned, **kept}

        return action

    def _assignable(self, part: Part, *, primed: bool) -> str | None:
        named = part.arguments[0] if primed and part.operator == "'" else part
        is_assigned = named.text in self._places and (part.operator == "'") == primed
        return named.text if is_assigned else None

    def _variables_in(self, part: Part) -> Iterator[str]:
        """The variables of a tuple; of one that is named by a definition too."""
        if part.kind == "tuple_literal":
            for item in part.parts:
                yield from self._variables_in(item)
        elif part.text in self._places:
            yield part.text
        else:
            yield from self._variables_in(self._definitions[part.text].parts[-1])


def _declared(units: Iterable[Part], kind: str) -> Iterator[str]:
    return (name.text for unit in units if unit.kind == kind for name in unit.parts)


def _conjuncts(part: Part) -> Iterator[Part]:
    if part.operator == "/\\":
        for one in part.arguments:
            yield from _conjuncts(one)
    else:
        yield part


def _always(value: Value) -> Expression:
    return lambda _state, _bound: value


def _only_if(asked: Expression) -> Action:
    def action(state: State, bound: Bound, assigned: Assigned) -> Iterator[Assigned]:
        if asked(state, bound):
            yield assigned

    return action


def _assigned(variable: str, value: Expression) -> Action:
    def action(state: State, bound: Bound, assigned: Assigned) -> Iterator[Assigned]:
        new = value(state, bound)
        if variable not in assigned:
            yield {**assigned, variable: new}
        elif assigned[variable] == new:
            yield assigned

    return action


def _either(parts: list[Action]) -> Action:
    def action(state: State, bound: Bound, assigned: Assigned) -> Iterator[Assigned]:
        for part in parts:
            yield from part(state, bound, assigned)

    return action


def _for_some(ranging: Ranging, inner: Action) -> Action:
    def action(state: State, bound: Bound, assigned: Assigned) -> Iterator[Assigned]:
        for one in ranging(state, bound):
            yield from inner(state, one, assigned)

    return action
