"""As much of TLA+ as `docs/leases.tla` is written in, evaluated: what a specification allows to begin with, and after any state.

What the forms mean is Lamport's, "Specifying Systems", chapters 15 and 16. An action is evaluated as TLC does it, from left to
right: a primed variable is given its value where it is first met, and compared from then on. Whatever is not listed here is
refused, never guessed. What has a value in one state is in `tlaexpressions`, the values are in `tlavalues`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from tests.model.tlaexpressions import Expression, Expressions, Ranging
from tests.model.tlatext import Part, UnknownTla
from tests.model.tlavalues import Bound, State, Value

Assigned: TypeAlias = Mapping[str, Value]
Action: TypeAlias = Callable[[State, Bound, Assigned], Iterator[Assigned]]


class Specification(Expressions):
    """A module with values for its constants: its states, and the steps between them. Raises `UnknownTla` as its parts do."""

    def __init__(self, text: str, constants: Mapping[str, Value]) -> None:
        super().__init__(text, constants)
        self._actions: dict[str, Action] = {}

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


def _conjuncts(part: Part) -> Iterator[Part]:
    if part.operator == "/\\":
        for one in part.arguments:
            yield from _conjuncts(one)
    else:
        yield part


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
