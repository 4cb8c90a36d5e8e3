"""The ledger on PostgreSQL 15 and newer, for several writers at once.

- `session`: one connection, its faults told apart, and a wait that ends when it is lost.
- `schema`: the tables, their versions, and the monthly partitions made ahead.
- `memory`: what a writer remembers of accounts and holders, each with the version that it read (`known`).
- `loading`: what it reads where it remembers nothing.
- `locks`: what a commit locks, and the versions that it finds there.
- `writes`: one commit's rows, a statement for each table; `lease_rows`: those that change with every lease.
- `lease_commit`: the commit of a work that does nothing else, on two journeys.
- `arrays`: a column of rows as one value.
- `store`: the commit itself: check under ordered locks, write, and do it over where another writer came first.
- `reader`: questions, each to one snapshot.

How two writers keep I1: the rules run on what a writer remembers, without a lock. The commit locks every account and
holder that the rules looked at, in the order of their rows and names, and compares versions; where one differs, or a name
that was free is taken, nothing is written and the rules run again, now with these rows locked before they run. So every
commit is as if it had been alone, and no two writers can wait for each other in a circle.

There is one chain for each ledger: its end is one row, locked last. An export is one sequence (C2) and an account does not
say which root tenant it counts for, so chains by root tenant would have no order that a verifier could check from the
export alone. To distribute by root tenant, give each shard a ledger of its own: no transaction touches two root tenants.
"""
