"""An authority with many accounts, in a process of its own: `python -m bench.populate LEDGER ACCOUNTS HOLDERS`.

Every account is leased from: a budget for each user of a team, the teams', departments' and the organization's above it.
Prints how many bytes of memory the process has in use at the end, and leaves the ledger.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.tree import CALENDAR, NOW, limit, text
from tollkeeper.leases import LeaseRequest, Want
from tollkeeper.limits import AccountId, Dimension
from tollkeeper.policy import CurrentPolicy, PolicySet
from tollkeeper.prices import PriceList
from tollkeeper_webhook.authority import LedgerAuthority

A_TEAM, A_DEPARTMENT = 100, 50
"""Users; teams."""

AT_ONCE = 64


class Users:
    """So many accounts: users in teams, teams in departments, departments in one organization."""

    def __init__(self, accounts: int) -> None:
        self.teams = max(1, accounts // (A_TEAM + 1))
        departments = -(-self.teams // A_DEPARTMENT)
        self.count = accounts - self.teams - departments - 1
        organization = limit("org")
        in_departments = [limit(f"department-{number}") for number in range(departments)]
        in_teams = [limit(f"team-{number}") for number in range(self.teams)]
        self._users = [limit(f"users-of-team-{number}", (Dimension.USER,)) for number in range(self.teams)]
        self.policy = PolicySet(1, {}, (organization, *in_departments, *in_teams, *self._users), PriceList.bundled())
        self._above = [
            (text(organization), text(in_departments[team // A_DEPARTMENT]), text(in_teams[team]))
            for team in range(self.teams)
        ]
        self._month = CALENDAR.window_at(NOW).key()

    @property
    def departments(self) -> list[range]:
        """The teams of each department that is full, or of the only one."""
        whole = self.teams // A_DEPARTMENT
        return [range(n * A_DEPARTMENT, (n + 1) * A_DEPARTMENT) for n in range(whole)] or [range(self.teams)]

    def of_team(self, team: int) -> range:
        """The users of a team."""
        return range(team, self.count, self.teams)

    def path(self, user: int) -> tuple[str, ...]:
        """The four accounts of a user's requests."""
        team = user % self.teams
        own = AccountId(self._users[team].ref, (f"user-{user}",), self._month, self._users[team].unit)
        return (*self._above[team], own.text)


def wants_of(users: Users, chosen: Sequence[int]) -> tuple[Want, ...]:
    """One want for each account that these users' requests need."""
    accounts = dict.fromkeys(account for user in chosen for account in users.path(user))
    return tuple(Want(account, 1000, 1000, 16_000) for account in accounts)


async def populated(path: Path, users: Users, holders: int) -> None:
    """Let so many holders lease from all accounts, each from its own users' and what is above these."""
    async with LedgerAuthority(path, CurrentPolicy(users.policy), lambda: NOW) as authority:
        for first in range(0, holders, AT_ONCE):
            calls = [
                LeaseRequest(f"gateway-{holder}", 1, wants_of(users, range(holder, users.count, holders)))
                for holder in range(first, min(holders, first + AT_ONCE))
            ]
            for reply in await asyncio.gather(*map(authority.lease, calls)):
                if reply.refused:
                    raise RuntimeError(f"a lease was refused: {reply.refused[0]}")
        print(resident_bytes())


def resident_bytes() -> int:
    """What the kernel says of this process."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))) * 1024


if __name__ == "__main__":
    asyncio.run(populated(Path(sys.argv[1]), Users(int(sys.argv[2])), int(sys.argv[3])))
