"""Opens a page in a headless browser at several widths and asks a script in it what it sees."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=60000",
]
# A window is never narrower than some 500 pixels, so that a phone is a frame in a page.
FRAMES = """<!doctype html><script>
addEventListener("message", (event) => {
  const pre = document.createElement("pre");
  pre.className = "found";
  pre.textContent = JSON.stringify(event.data);
  document.body.append(pre);
});
</script><body>"""


def open_page(page: str, probe: str, folder: Path, widths: tuple[int, ...]) -> tuple[dict[int, Any], str]:
    """What a page says of itself by width, and the browser's log.

    Args:
        page: HTML.
        probe: script elements that post an object with a `width` to the page's parent, once for each width.
        folder: for the page and the browser's profile.
        widths: pixels.
    """
    assert CHROMIUM
    (folder / "page.html").write_text(page.replace("</body>", probe + "</body>"), encoding="utf-8")
    frames = "".join(
        f'<iframe src="page.html" style="width:{width}px;height:9000px;border:0"></iframe>' for width in widths
    )
    (folder / "frames.html").write_text(FRAMES + frames, encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", f"file://{folder}/frames.html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = [json.loads(unescape(text)) for text in re.findall(r'<pre class="found">(.*?)</pre>', done.stdout)]
    return {entry["width"]: entry for entry in found}, done.stderr
