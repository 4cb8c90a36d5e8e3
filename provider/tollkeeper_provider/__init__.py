"""A simulated provider of language models, with books of its own.

It stands in for a paid service in demonstrations and tests: it speaks OpenAI's API, counts what the request tells it to
count, and writes what it served into a file that nobody else writes. It shares no code with the rest of Tollkeeper, so
that its book is a second opinion on the ledger's.

Errors: `ProviderError` is the root; `HeaderError`, `PricesError` and `BookError` are its leaves; `Refusal` is an answer
in the shape of OpenAI's errors.
"""

from tollkeeper_provider.book import BookEntry, BookTotals, read_book, totals
from tollkeeper_provider.buckets import Buckets, parse_usage, usage_header
from tollkeeper_provider.errors import BookError, HeaderError, PricesError, ProviderError
from tollkeeper_provider.server import ProviderSettings, RunningProvider, serve, start_provider

__all__ = [
    "BookEntry",
    "BookError",
    "BookTotals",
    "Buckets",
    "HeaderError",
    "PricesError",
    "ProviderError",
    "ProviderSettings",
    "RunningProvider",
    "parse_usage",
    "read_book",
    "serve",
    "start_provider",
    "totals",
    "usage_header",
]
