"""Captures: the bodies of requests and answers of tenants that ask for it, beside the ledger and no part of it (R27).

A ledger is append-only, exported and backed up; bodies are large, must be deletable, and nothing may wait for them. So they
lie in a store of their own: a SQLite file beside the ledger's, or a table of the ledger's PostgreSQL database that has its
own schema.

- `sealing`: bodies are compressed, then encrypted; who has no key reads none.
- `storage`: what is asked of a store, whose rows know nothing of keys; opens either of the two.
- `sqlite`, `postgres`: the two.
- `vault`: a store and the keys to it; `Keeper` for the gateway.
- `sweeping`: what is over goes, in bounded steps.
- `errors`: the small tree of what can go wrong.
"""
