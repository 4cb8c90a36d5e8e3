"""What earlier holders left behind: found in the spool, reported, and their leases ended (I2).

- Records that may not have been booked are reported again: booking twice is impossible (I3).
- A holder that died while this machine went on is closed: what its open holds name stays as unreconciled usage, the rest
  of its leases is free at once.
- After a crash of the machine (another boot id) holds may be missing, since they are not synced. Such a holder is not
  closed: its leases lapse by themselves, all of them unreconciled. An error is on the safe side.
- The same where a file is damaged; it is kept aside as `<holder>.damaged`.
- A record that cannot be booked (see `delivery`) stands as unreconciled usage with what it held, and its spool stays. What
  cannot be done for one holder keeps nobody from the others; all is tried again later.
"""

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from tollkeeper.errors import Unavailable
from tollkeeper.leases import Authority
from tollkeeper.usage import UsageRecord
from tollkeeper_sidecar.delivery import LARGEST_REPORT, deliver
from tollkeeper_sidecar.errors import SpoolError
from tollkeeper_sidecar.spool import SUFFIX, lock
from tollkeeper_sidecar.spool_format import SpoolContent, read_files

BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")
DAMAGED: Final = ".damaged"

_log = structlog.get_logger("tollkeeper.gateway")


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was done for earlier holders: how many, their records, their open holds, and how many spools are damaged.

    `fault` is what keeps a spool from being done with, the first of several; `None` when nothing is left.
    """

    holders: int = 0
    records: int = 0
    open_holds: int = 0
    damaged: int = 0
    fault: Exception | None = None


def boot_id() -> str:
    """What names this run of the machine; empty where it cannot be known, which never equals another."""
    try:
        return BOOT_ID_FILE.read_text(encoding="ascii").strip()
    except OSError:
        return ""


async def recover(directory: Path, authority: Authority, boot: str) -> Recovered:
    """Settle the spools of all earlier holders in a folder. What `Recovered.fault` keeps can be recovered later.

    Raises `Unavailable` when the authority does not answer (the same), and `SpoolError` when the folder cannot be read.
    """
    done = Recovered()
    for folder in await asyncio.to_thread(_left_behind, directory):
        try:
            descriptor = lock(folder)
        except OSError:
            continue
        try:
            done = await _recover_one(folder, authority, boot, done)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - what is wrong with one spool must not keep the others
            done = replace(done, fault=done.fault or error)
        finally:
            os.close(descriptor)
    return done


async def _recover_one(folder: Path, authority: Authority, boot: str, done: Recovered) -> Recovered:
    content = await asyncio.to_thread(_read, folder)
    records = list(content.records.values())
    unbooked, fault = await _deliver_all(authority, records)
    same_boot = bool(boot) and content.boot == boot
    if content.damage is None and content.holder is not None and same_boot:
        await authority.close(content.holder, _kept(content, unbooked))
    if unbooked:
        return replace(done, fault=done.fault or fault)
    _log_recovered(folder, content, closed=content.damage is None and same_boot)
    await asyncio.to_thread(_put_away, folder, content.damage)
    return Recovered(
        holders=done.holders + 1,
        records=done.records + len(records),
        open_holds=done.open_holds + len(content.open_holds),
        damaged=done.damaged + (content.damage is not None),
        fault=done.fault,
    )


async def _deliver_all(
    authority: Authority, records: Sequence[UsageRecord]
) -> tuple[Sequence[UsageRecord], Exception | None]:
    """Report records; the answer is those that are not booked, and why the first of them is not.

    Where nothing of a whole batch is taken the rest is not tried: it is not one record that is at fault.
    """
    refused: list[UsageRecord] = []
    faults: list[Exception] = []

    def odd(record: UsageRecord, error: Exception) -> None:
        refused.append(record)
        faults.append(error)

    for start in range(0, len(records), LARGEST_REPORT):
        if start and len(refused) == start:
            return records, faults[0]
        await deliver(authority, records[start : start + LARGEST_REPORT], lambda _: None, odd)
    return refused, faults[0] if faults else None


def _kept(content: SpoolContent, refused: Sequence[UsageRecord]) -> dict[str, int]:
    """What an ended holder keeps: what is open, and what stands for usage that is not booked yet."""
    kept = Counter(content.kept())
    for record in refused:
        for charge in record.charges:
            kept[charge.account] += charge.held
    return dict(kept)


def _log_recovered(folder: Path, content: SpoolContent, *, closed: bool) -> None:
    if content.damage is not None:
        _log.error(
            "spool damaged: what can be read was reported, the file is kept aside and its leases lapse",
            spool=str(folder) + DAMAGED,
            damage=content.damage,
            records=len(content.records),
        )
        return
    _log.info(
        "recovered an earlier gateway's spool",
        holder=content.holder,
        records=len(content.records),
        open_holds=len(content.open_holds),
        leases="given back but for open holds" if closed else "left to lapse: the machine was restarted",
    )


def _left_behind(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.endswith(DAMAGED))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SpoolError(f"spool {directory}: {error.strerror}: see that the folder can be read and written") from error


def _read(folder: Path) -> SpoolContent:
    def files() -> Iterator[tuple[str, bytes]]:
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            yield path.name, path.read_bytes()

    try:
        return read_files(files())
    except OSError as error:
        raise SpoolError(f"spool {folder}: {error.strerror}: see that its files can be read") from error


def _put_away(folder: Path, damage: str | None) -> None:
    if damage is None:
        shutil.rmtree(folder)
        return
    aside, number = folder.with_name(folder.name + DAMAGED), 1
    while aside.exists():
        aside, number = folder.with_name(f"{folder.name}-{number}{DAMAGED}"), number + 1
    folder.rename(aside)
