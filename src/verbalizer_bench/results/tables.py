"""Tables: as Markdown, as HTML for notebooks, as pandas frames."""

from collections.abc import Sequence
from html import escape
from typing import Any


class Tabular:
    """An object that a notebook shows as a table; `rows` are its records."""

    def rows(self) -> list[dict[str, Any]]:
        """Return the table's rows, values by the columns' names."""
        raise NotImplementedError

    def to_frame(self) -> Any:
        """Return the rows as a pandas `DataFrame`.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_frame needs pandas; `pip install pandas`") from error
        return pandas.DataFrame(self.rows())

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        rows = self.rows()
        return html_table(list(rows[0]), [list(map(_cell, row.values())) for row in rows])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table with aligned columns: the first two left, the others right."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| "
        + " | ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in cells
    ]
    rule = "|".join(
        ("-" * (width + 2)) if column < 2 else "-" * (width + 1) + ":"
        for column, width in enumerate(widths)
    )
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out an HTML table; every text is escaped."""
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
