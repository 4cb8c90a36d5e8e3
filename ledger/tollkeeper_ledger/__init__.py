"""The ledger: every usage and payment as an append-only, zero-sum, hash-chained transaction, and the balances they make.

- `chain`: transactions, their canonical form and their hashes.
- `schema`: the tables, and how a database is brought to the version in use.
- `state`: what the rules read of a storage; `work`: what one commit changes, kept apart until it is durable.
- `bookkeeping`: the rules: open, lease, charge, lapse, close, grant.
- `storage`: what the ledger needs of a storage; opens either.
- `sqlite`, `reader`: storage in one SQLite file with one writer.
- `postgres`: storage in a PostgreSQL database that several writers share.
- `questions`: what console, status and reports ask, in SQL for both.
- `writer`: group commit; the one thread that writes.
- `export`: the chain as JSON Lines, and its check without a database.

Errors: `LedgerUnavailable` (an `Unavailable`: nothing was booked, try again), `LedgerInUse` (another process owns the
file), `ChainBroken` (what is stored is not what was written).
"""
