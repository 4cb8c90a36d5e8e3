"""The operator: reads the cluster's objects into the policy in force, and writes balances back as statuses.

- `watches`, `kopf_watch`, `feed`: gathering; `gathered`: what it amounts to.
- `decisions`, `balances`, `grant_desk`, `threshold_events`: deciding.
- `writing`, `status_writer`, `event_log`, `schedule`, `desired`: applying.
- `operator`: the three together, with `health` and `metrics`.

Errors: none of its own. `KubeError`s and the ledger's `Unavailable` are met here, told once, and tried again with pauses
that grow to a bound.
"""

from tollkeeper_operator.operator import Operator
from tollkeeper_operator.settings import OperatorSettings

__all__ = ["Operator", "OperatorSettings"]
