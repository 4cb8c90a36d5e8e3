"""Both storages, as the ledger's own tests have them: an empty ledger on each."""

from tests.ledger.conftest import ledger, new_ledger, postgres

__all__ = ["ledger", "new_ledger", "postgres"]
