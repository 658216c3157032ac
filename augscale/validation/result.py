"""The result of `augscale.validate`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from augscale.records.validation import ValidationRecord
from augscale.runs.files import write_text_atomic


class Validation(ValidationRecord):
    """The content of validation.json, and the folder that holds it."""

    out: Path = Field(exclude=True)

    @property
    def run_dir(self) -> Path:
        return Path(self.run)

    @property
    def json(self) -> Path:  # type: ignore[override]
        return self.out / "validation.json"

    @property
    def page(self) -> Path:
        return self.out / "validation.html"

    def _repr_html_(self) -> str:
        from augscale.reporting.shared.notebook import notebook_html

        return notebook_html(self.headline, notes=self.sentences, page=self.page)

    def save(self) -> None:
        """Writes validation.json, three CSV tables and validation.html.

        Raises:
            StudyError: the folder cannot be written.
        """
        from augscale.reporting.validation.csv_tables import csv_tables
        from augscale.reporting.validation.page import write_validation_page

        self.write(self.json)
        for name, text in csv_tables(self).items():
            write_text_atomic(self.out / name, text)
        write_validation_page(self.page, self)
