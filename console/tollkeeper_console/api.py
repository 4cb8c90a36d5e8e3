"""The JSON API under `/api/v1`: one table of operations, from which both the routes and the OpenAPI document are made.

Everything is a question (GET); errors are RFC 9457 problems.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from tollkeeper.limits import LimitRef
from tollkeeper_console import parameters as given
from tollkeeper_console.filters import FILTERS, filter_of
from tollkeeper_console.models import (
    ForecastShape,
    LimitDetail,
    LimitItem,
    PageOf,
    PaymentItem,
    PeriodList,
    SpendSeries,
    UnbookedItem,
    UsageItem,
)
from tollkeeper_console.parameters import ACCOUNT, LARGEST_PAGE, LARGEST_SIZE, ORDER, PAGE, RANGE, SIZE, Parameter
from tollkeeper_console.queries import Queries
from tollkeeper_console.series import series_of
from tollkeeper_console.shapes import (
    forecast_shape,
    limit_detail,
    limit_item,
    payment_item,
    period_list,
    spend_series,
    unbooked_item,
    usage_item,
)

ROOT = "/api/v1"


@dataclass(frozen=True, slots=True)
class Question:
    """A request as operations see it: what stands in the path, what after the question mark."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    page_size: int

    def ref(self, kind: str) -> LimitRef:
        """The limit that the path names."""
        return LimitRef(kind, self.path["namespace"], self.path["name"], self.path.get("limit", ""))

    def page(self) -> int:
        """The page that is asked for. Raises `BadRequest`."""
        return given.whole(self.query, "page", 1, LARGEST_PAGE)

    def size(self) -> int:
        """Items a page. Raises `BadRequest`."""
        return given.whole(self.query, "size", self.page_size, LARGEST_SIZE)


Answer = Callable[[Queries, Question], BaseModel]


@dataclass(frozen=True, slots=True)
class Operation:
    """One path of the API: what it answers, of which shape, to which parameters."""

    path: str
    id: str
    summary: str
    shape: type[BaseModel]
    answer: Answer
    parameters: tuple[Parameter, ...] = ()

    def ask(self, queries: Queries, question: Question) -> BaseModel:
        """The answer. Raises `BadRequest` for a parameter that the operation does not have, and whatever it raises."""
        given.refuse_unknown(question.query, self.parameters)
        return self.answer(queries, question)


def _list_of(kind: str) -> Answer:
    def answer(queries: Queries, question: Question) -> BaseModel:
        page, size = question.page(), question.size()
        limits = queries.limits(kind)
        shown = [limit_item(view) for view in limits[(page - 1) * size : page * size]]
        return PageOf[LimitItem](items=shown, page=page, size=size, total=len(limits))

    return answer


def _detail_of(kind: str) -> Answer:
    def answer(queries: Queries, question: Question) -> BaseModel:
        return limit_detail(queries.account(question.ref(kind), question.query.get("account")))

    return answer


def _usages_of(kind: str) -> Answer:
    def answer(queries: Queries, question: Question) -> BaseModel:
        view = queries.account(question.ref(kind), question.query.get("account"))
        order, wanted = given.order_of(question.query), filter_of(question.query)
        page = queries.usages(view, question.page(), question.size(), order, wanted)
        items = [usage_item(row, view.limit.unit) for row in page.rows]
        return PageOf[UsageItem](items=items, page=page.page, size=page.size, total=page.total)

    return answer


def _usage_of(kind: str) -> Answer:
    def answer(queries: Queries, question: Question) -> BaseModel:
        view = queries.account(question.ref(kind), question.query.get("account"))
        return usage_item(queries.usage(view, question.path["usage"]), view.limit.unit)

    return answer


def _payments_of(kind: str) -> Answer:
    def answer(queries: Queries, question: Question) -> BaseModel:
        view = queries.account(question.ref(kind), question.query.get("account"))
        page = queries.payments(view, question.page(), question.size(), given.order_of(question.query))
        items = [payment_item(row, view.limit.unit) for row in page.rows]
        return PageOf[PaymentItem](items=items, page=page.page, size=page.size, total=page.total)

    return answer


def _spend_of(kind: str) -> Answer:
    def answer(queries: Queries, question: Question) -> BaseModel:
        view = queries.account(question.ref(kind), question.query.get("account"))
        return spend_series(view, series_of(queries, view, given.range_of(question.query)))

    return answer


def _forecast_of(kind: str) -> Answer:
    def answer(queries: Queries, question: Question) -> BaseModel:
        view = queries.account(question.ref(kind), question.query.get("account"))
        return forecast_shape(queries.forecast(view), view.limit.unit)

    return answer


def _periods_of(kind: str) -> Answer:
    def answer(queries: Queries, question: Question) -> BaseModel:
        return period_list(queries.periods(queries.account(question.ref(kind), question.query.get("account"))))

    return answer


def _unbooked(queries: Queries, question: Question) -> BaseModel:
    page, size = question.page(), question.size()
    found = queries.unbooked()
    shown = [unbooked_item(one) for one in found[(page - 1) * size : page * size]]
    return PageOf[UnbookedItem](items=shown, page=page, size=size, total=len(found))


def _operations(kind: str, noun: str, listed: str, one: str) -> tuple[Operation, ...]:
    title, paging = noun.capitalize(), (PAGE, SIZE)
    rows = (ACCOUNT, PAGE, SIZE, ORDER)
    return (
        Operation(listed, f"list{title}s", f"All {noun}s, the worst first", PageOf[LimitItem], _list_of(kind), paging),
        Operation(one, f"get{title}", f"One {noun} with its sums", LimitDetail, _detail_of(kind), (ACCOUNT,)),
        Operation(
            f"{one}/usages",
            f"list{title}Usages",
            "Its usages, those alone that every filter lets through",
            PageOf[UsageItem],
            _usages_of(kind),
            (*rows, *FILTERS),
        ),
        Operation(f"{one}/usages/{{usage}}", f"get{title}Usage", "One usage", UsageItem, _usage_of(kind), (ACCOUNT,)),
        Operation(
            f"{one}/payments", f"list{title}Payments", "Its payments", PageOf[PaymentItem], _payments_of(kind), rows
        ),
        Operation(
            f"{one}/periods", f"list{title}Periods", "Its last periods", PeriodList, _periods_of(kind), (ACCOUNT,)
        ),
        Operation(
            f"{one}/spend", f"get{title}Spend", "Its spending over time", SpendSeries, _spend_of(kind), (ACCOUNT, RANGE)
        ),
        Operation(
            f"{one}/forecast", f"get{title}Forecast", "Its forecast", ForecastShape, _forecast_of(kind), (ACCOUNT,)
        ),
    )


OPERATIONS: tuple[Operation, ...] = (
    *_operations("TokenBudget", "budget", f"{ROOT}/budgets", f"{ROOT}/budgets/{{namespace}}/{{name}}"),
    *_operations("TokenQuota", "quota", f"{ROOT}/quotas", f"{ROOT}/quotas/{{namespace}}/{{name}}/{{limit}}"),
    Operation(
        f"{ROOT}/unbooked",
        "listUnbooked",
        "What gateways have settled and is not booked, what stands for longest first",
        PageOf[UnbookedItem],
        _unbooked,
        (PAGE, SIZE),
    ),
)
