"""Writes docs/images/answer.png: the answer of `make search` as a terminal shows it.

    python docs/make_terminal.py [RUN/answer.json]

The answer is that of a run, docs/images/default-answer.json; a file that is given replaces it. The font is the one that
comes with matplotlib, so every machine draws the same letters.
"""

from __future__ import annotations

import shutil
import sys
from io import BytesIO, StringIO
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from augscale.data.own_pictures import save_options
from augscale.records.answer import AnswerRecord
from augscale.reporting.search.terminal import answer_screen
from augscale.reporting.shared.screen import Screen, plain_screen, print_screen

IMAGES = Path(__file__).parent / "images"
PICTURE, ANSWER = IMAGES / "answer.png", IMAGES / "default-answer.json"
RUN, LIBRARY = Path("runs/default"), "lightly"
COLUMNS, FONT_SIZE, LINE, EDGE = 100, 17, 25, 18
"""Width of the terminal; pixels: of the font, of a line, around the text."""
PAPER, INK, DIM, GREEN = "#1f242c", "#e8eaee", "#a3adb9", "#7bd88f"
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def screen() -> Screen:
    """What the search prints at its end."""
    return answer_screen(AnswerRecord.read(ANSWER), RUN, LIBRARY)


def plain() -> str:
    """The same as the plain text of a pipe, as docs/start.md shows it."""
    return plain_screen(screen())


def picture() -> bytes:
    """The PNG file."""
    lines = _terminal_lines()
    fonts = {
        bold: ImageFont.truetype(FONTS / f"DejaVuSansMono{'-Bold' * bold}.ttf", FONT_SIZE) for bold in (False, True)
    }
    column = fonts[False].getlength("0")
    sheet = Image.new("RGB", (round(COLUMNS * column) + 2 * EDGE, len(lines) * LINE + 2 * EDGE), PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, segments in enumerate(lines):
        left = float(EDGE)
        for text, style, _ in segments:
            style = style or Style()
            draw.text((left, EDGE + row * LINE), text, font=fonts[bool(style.bold)], fill=_color(style))
            left += len(text) * column
    file = BytesIO()
    sheet.save(file, format="PNG", optimize=True, **save_options("PNG"))
    return file.getvalue()


def _terminal_lines() -> list[list[Segment]]:
    """Pieces of text with their styles, without empty lines at the ends."""
    console = Console(
        file=StringIO(), width=COLUMNS, force_terminal=True, color_system="standard", legacy_windows=False
    )
    print_screen(screen(), console)
    text = Text.from_ansi(console.file.getvalue().strip("\n"))
    return [list(line.render(console)) for line in text.split("\n")]


def _color(style: Style) -> str:
    if style.dim:
        return DIM
    return GREEN if style.color is not None and style.color.number == 2 else INK


if __name__ == "__main__":
    if len(sys.argv) > 1:
        shutil.copyfile(sys.argv[1], ANSWER)
    PICTURE.write_bytes(picture())
    print(PICTURE)
