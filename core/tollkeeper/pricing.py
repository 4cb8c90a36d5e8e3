"""From PriceBooks to the price list in force (R10, M6)."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from tollkeeper.errors import InvalidValue
from tollkeeper.prices import Price, PriceEntry, PriceList, ToolPrice
from tollkeeper.problems import Problem
from tollkeeper.references import ref_of
from tollkeeper.resources import PriceBook
from tollkeeper.windows import format_time

_Priced = tuple[str, str, datetime | None]
"""Provider, model and the time from which a price holds."""


def book_prices(books: Iterable[PriceBook], base: PriceList) -> tuple[PriceList, tuple[Problem, ...]]:
    """`base` under all books, and what is wrong with them.

    A book whose prices cannot be is left out whole. Two prices for the same provider and model from the same time are a
    problem of the later one, by name of the book and place in it: nobody can say which holds. Of several books with
    fallback prices the first by name counts. Unknown models without a fallback stay unpriced; the rule that Hard USD limits
    refuse them (M6) is the meter's.
    """
    entries: list[PriceEntry] = []
    tools: list[ToolPrice] = []
    problems: list[Problem] = []
    fallback: Price | None = None
    chosen = ""
    priced: dict[_Priced, tuple[str, int]] = {}
    for book in sorted(books, key=lambda book: book.name):
        problems += _doubles(book, priced)
        try:
            own, own_tools, own_fallback = _prices(book)
            base.with_books(own, own_tools)
        except InvalidValue as wrong:
            problems.append(_impossible(book, str(wrong)))
            continue
        entries += own
        tools += own_tools
        if own_fallback is not None and fallback is not None:
            problems.append(_second_fallback(book, chosen))
        elif own_fallback is not None:
            fallback, chosen = own_fallback, book.name
    return base.with_books(entries, tools, fallback=fallback), tuple(problems)


def _prices(book: PriceBook) -> tuple[list[PriceEntry], list[ToolPrice], Price | None]:
    version = str(book.generation or 1)
    entries = [
        PriceEntry(
            provider=one.provider,
            model=one.model,
            per_million=one.per_million.by_bucket(),
            per_request=one.dollars_per_request,
            effective_from=one.effective_from,
            book=book.name,
            version=version,
            context_window=one.context_window,
        )
        for one in book.spec.models
    ]
    tools = [ToolPrice(one.name, one.dollars_per_call, book=book.name, version=version) for one in book.spec.tools]
    return entries, tools, _fallback(book, version)


def _fallback(book: PriceBook, version: str) -> Price | None:
    given = book.spec.fallback
    if given is None:
        return None
    name = f"PriceBook/{book.name}/fallback"
    return Price("", "", name, version, given.per_million.by_bucket(), given.dollars_per_request)


def _doubles(book: PriceBook, priced: dict[_Priced, tuple[str, int]]) -> Iterator[Problem]:
    """Prices of a book for what is `priced` before; what it prices first is added."""
    for number, one in enumerate(book.spec.models):
        elsewhere, earlier = priced.setdefault((one.provider, one.model, one.effective_from), (book.name, number))
        if (elsewhere, earlier) != (book.name, number):
            since = f"from {format_time(one.effective_from)}" if one.effective_from else "without effectiveFrom"
            place = f"spec.models[{earlier}]" + (f" of the PriceBook {elsewhere}" if elsewhere != book.name else "")
            reason = f"{one.provider} {one.model} {since} has a price already, at {place}"
            remedy = "remove one of the two, or give them different times in effectiveFrom"
            yield Problem(ref_of(book), f"spec.models[{number}]", "PriceTwice", reason, remedy)


def _impossible(book: PriceBook, reason: str) -> Problem:
    return Problem(ref_of(book), "spec", "PriceNotPossible", reason, "correct the price")


def _second_fallback(book: PriceBook, chosen: str) -> Problem:
    reason = f"the PriceBook {chosen} has fallback prices already, and one book alone can have them"
    remedy = f"remove spec.fallback here, or in the PriceBook {chosen}"
    return Problem(ref_of(book), "spec.fallback", "FallbackTwice", reason, remedy)
