"""What stands in a database's cells, where somebody may have written there: SQLite keeps in a column whatever it is."""

from tollkeeper.errors import shown
from tollkeeper_ledger.errors import BooksDiffer


def whole(value: object, where: str) -> int:
    """A whole number. Raises `BooksDiffer` for anything else."""
    if type(value) is not int:
        raise BooksDiffer(f"{where}: {shown(value)} stands where a whole number belongs; the row was changed")
    return value


def word(value: object, where: str) -> str:
    """A text. Raises `BooksDiffer` for anything else."""
    if not isinstance(value, str):
        raise BooksDiffer(f"{where}: {shown(value)} stands where a text belongs; the row was changed")
    return value
