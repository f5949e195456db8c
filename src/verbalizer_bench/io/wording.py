"""Counts in sentences."""


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with what is counted: `1 record`, `2,000 records`.

    Args:
        number: How many.
        one: What is said of one.
        many: What is said of any other number; empty: the same with an s.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
