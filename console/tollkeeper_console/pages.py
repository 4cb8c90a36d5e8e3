"""The pages: what each shows, gathered from queries and rendered by Jinja2 with everything escaped.

All state of a page stands in its address, so that it can be kept, sent and reloaded.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from tollkeeper.accounts import Phase
from tollkeeper.amounts import Unit
from tollkeeper.costs import cost_parts
from tollkeeper.forecast import COVERAGE, Forecast
from tollkeeper.limits import AccountId, LimitRef
from tollkeeper.views import Order, Page, PeriodRow, UsageRow
from tollkeeper.windows import Window
from tollkeeper_console import display
from tollkeeper_console.filterform import MOST_VALUES, FilterForm, form_of
from tollkeeper_console.filters import NAMES
from tollkeeper_console.parameters import LARGEST_PAGE, order_of, range_of, whole
from tollkeeper_console.queries import AccountView, Queries
from tollkeeper_console.series import series_of

TEMPLATES = Path(__file__).parent / "templates"

_DEFAULTS = {"page": "1", "usages": "1", "payments": "1", "usages_order": "newest", "payments_order": "newest"}


@dataclass(frozen=True, slots=True)
class Address:
    """The page's own address; `to` changes parts of its state and leaves out what is the default."""

    path: str
    query: Mapping[str, str]

    def to(self, path: str | None = None, /, **changes: object) -> str:
        """The address with these parameters changed; None takes one away."""
        merged = {**self.query, **{name: None if value is None else str(value) for name, value in changes.items()}}
        kept = {name: value for name, value in merged.items() if value is not None and value != _DEFAULTS.get(name)}
        return (path or self.path) + (f"?{urlencode(sorted(kept.items()))}" if kept else "")

    def without(self, names: Container[str]) -> dict[str, str]:
        """The state without these parameters."""
        return {name: value for name, value in self.query.items() if name not in names}


class Rendering(NamedTuple):
    """A page and the HTTP status that it answers with."""

    text: str
    status: int = HTTPStatus.OK


@dataclass(frozen=True, slots=True)
class Pager:
    """Where a list stands: `first` to `last` of `total`."""

    name: str
    page: int
    size: int
    total: int
    order: str

    @property
    def pages(self) -> int:
        """How many pages there are; one for an empty list."""
        return max(1, -(-self.total // self.size))

    @property
    def first(self) -> int:
        """The number of the first row shown."""
        return min(self.total, (self.page - 1) * self.size + 1)

    @property
    def last(self) -> int:
        """The number of the last row shown."""
        return min(self.total, self.page * self.size)


class Pages:
    """Renders pages. Safe for use by several threads."""

    def __init__(self, queries: Queries, page_size: int) -> None:
        self._queries = queries
        self._page_size = page_size
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(_vocabulary())

    def overview(self, address: Address) -> Rendering:
        """All budgets and quotas."""
        page, size = whole(address.query, "page", 1, LARGEST_PAGE), self._page_size
        limits = self._queries.limits()
        return self._render(
            "overview.html",
            address,
            limits=limits[(page - 1) * size : page * size],
            pager=Pager("page", page, size, len(limits), "worst first"),
            counts={phase: sum(view.phase is phase for view in limits) for phase in Phase},
            missed=self._queries.missed(),
            now=self._queries.clock(),
        )

    def account(self, ref: LimitRef, address: Address) -> Rendering:
        """One budget, or one limit of a quota."""
        query, size = address.query, self._page_size
        view = self._queries.account(ref, query.get("account"))
        usages_order, payments_order = order_of(query, "usages_order"), order_of(query, "payments_order")
        usages_page = whole(query, "usages", 1, LARGEST_PAGE)
        payments_page = whole(query, "payments", 1, LARGEST_PAGE)
        form = form_of(query, view.zone)
        usages = self._usages(view, form, usages_page, usages_order)
        payments = self._queries.payments(view, payments_page, size, payments_order)
        return self._render(
            "account.html",
            address,
            HTTPStatus.BAD_REQUEST if form.problem else HTTPStatus.OK,
            view=view,
            series=series_of(self._queries, view, range_of(query)),
            periods=_offered(self._queries.periods(view), view.current),
            current=view.current,
            form=form,
            choices=self._queries.usage_choices(view, MOST_VALUES),
            usages=usages.rows,
            usages_pager=Pager("usages", usages_page, size, usages.total, usages_order),
            payments=payments.rows,
            payments_pager=Pager("payments", payments_page, size, payments.total, payments_order),
        )

    def _usages(self, view: AccountView, form: FilterForm, page: int, order: Order) -> Page[UsageRow]:
        """The usages that the form asks for; none while it asks for what cannot be."""
        if form.problem:
            return Page((), 0, page, self._page_size)
        return self._queries.usages(view, page, self._page_size, order, form.wanted)

    def usage(self, ref: LimitRef, usage: str, address: Address) -> Rendering:
        """One usage in full."""
        view = self._queries.account(ref, address.query.get("account"))
        row = self._queries.usage(view, usage)
        parts = {part.name: part for part in cost_parts(row.buckets, row.unit_prices)}
        return self._render("usage.html", address, view=view, row=row, parts=parts)

    def error(self, status: int, detail: str, address: Address) -> Rendering:
        """An error in words."""
        title = HTTPStatus(status).phrase
        return self._render("error.html", address, status, error=status, title=title, detail=detail)

    def _render(self, template: str, address: Address, status: int = HTTPStatus.OK, /, **values: Any) -> Rendering:
        return Rendering(self._templates.get_template(template).render(address=address, **values), status)


def _offered(periods: Sequence[PeriodRow], current: Window) -> list[PeriodRow]:
    """The periods to choose from: the current one is always among them, though nothing may be booked in it yet."""
    known = any(one.start == current.start for one in periods)
    return [*([] if known else [PeriodRow("", current.start, current.end)]), *periods]


def _vocabulary() -> Mapping[str, Any]:
    """What templates may name."""
    written: dict[str, Callable[..., Any]] = {
        name: getattr(display, name)
        for name in (
            "amount",
            "exact_dollars",
            "figure",
            "key_words",
            "machine",
            "minute",
            "moment",
            "number",
            "percent",
            "price_words",
            "page_path",
            "rough",
            "span",
        )
    }
    return written | {
        "bucket_words": display.BUCKET_WORDS,
        "part_words": display.PART_WORDS,
        "coverage": COVERAGE,
        "is_forecast": lambda seen: isinstance(seen, Forecast),
        "key_of": lambda account: AccountId.parse(account.id).key,
        "limit_of": _live_name,
        "phase_words": display.phase_words,
        "spend_path": _spend_path,
        "unit_words": display.unit_words,
        "other_account": ("account", "usages", "payments", "range", "from", "to"),
        "unfiltered": dict.fromkeys((*NAMES, "usages")),
        "usd": Unit.USD,
    }


def _live_name(ref: LimitRef) -> str:
    """The limit as events name it: an account's text without key, window and unit."""
    return AccountId(ref, (), "", Unit.USD).text.rpartition("/")[0]


def _spend_path(view: AccountView, address: Address) -> str:
    """Where the chart finds its data."""
    kept = {name: address.query[name] for name in ("account", "range") if name in address.query}
    path = f"/api/v1{display.page_path(view.limit.ref)}/spend"
    return path + (f"?{urlencode(kept)}" if kept else "")
