"""What can go wrong in the simulated provider: one small tree.

`ProviderError` ─ `HeaderError` (a `Provider-…` header cannot be read), `PricesError` (the price file),
`BookError` (the provider's own book), `Refusal` (an answer to the client, in the shape of OpenAI's errors).
"""


class ProviderError(Exception):
    """Something the person who runs or calls the simulated provider has to put right."""


class HeaderError(ProviderError):
    """A `Provider-Usage` or `Provider-Behaviour` header that cannot be read."""


class PricesError(ProviderError):
    """The price file cannot be read, or is not a price table."""


class BookError(ProviderError):
    """The book cannot be read, is in use by another provider, or cannot be written."""


class Refusal(ProviderError):
    """An answer other than 200, with the fields of OpenAI's error object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",  # noqa: A002 - the field's own name
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
