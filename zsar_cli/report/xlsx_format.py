"""Spreadsheets for Excel and LibreOffice, by openpyxl; no cell is a formula, whatever it begins with."""

from __future__ import annotations

import io
from typing import Any

from zsar_cli.errors import MissingExtraError
from zsar_cli.report.escaping import printable
from zsar_cli.report.sheet_formats import SHEET, WholeSheet

try:
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font
except ImportError:
    raise MissingExtraError("openpyxl", "xlsx", "the format xlsx") from None

__all__ = ["XlsxWriter"]

WIDTHS = {"path": 50, "answer": 25, "second": 25, "reasons": 50}  # characters
LONGEST = 32_767  # characters in a cell


class XlsxWriter(WholeSheet):
    """One sheet, the names of the columns in bold and always in sight."""

    def _tail(self, complete: bool) -> bytes:
        book = Workbook(write_only=True)
        sheet = book.create_sheet("zsar")
        sheet.freeze_panes = "A2"
        for letter, name in zip("ABCDEFGHIJKL", SHEET, strict=True):
            sheet.column_dimensions[letter].width = WIDTHS.get(name, 12)
        heads = [_cell(sheet, name) for name in SHEET]
        for head in heads:
            head.font = Font(bold=True)
        sheet.append(heads)
        for row in self.rows:
            sheet.append([_cell(sheet, row.get(name)) for name in SHEET])
        whole = io.BytesIO()
        book.save(whole)
        return whole.getvalue()


def _cell(sheet: Any, value: Any) -> Any:
    if not isinstance(value, str):
        return WriteOnlyCell(sheet, value)
    cell = WriteOnlyCell(sheet, printable(value)[:LONGEST])
    cell.data_type = "s"  # text, also where it begins with =
    return cell
