"""Take the pictures of the web page that README and docs show, with SmolLM2-135M.

Needs chromium and playwright, and a quiet machine: the pictures have speeds in them.
Run: python tools/page_pictures.py
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

FOLDER = Path(__file__).parents[1] / "docs" / "images"
DESK, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
PICTURES = (
    ("web-page.png", DESK, "light", 1),
    ("web-page-dark.png", DESK, "dark", 1),
    ("web-page-phone.png", PHONE, "light", 1.5),
)
QUESTIONS = ("What is a lighthouse for?", "Explain in two short sentences why the sky is blue.")
SETTINGS = "localStorage.setItem('tonnage.settings', JSON.stringify({ seed: '7', maxTokens: 120 }))"
SAMPLES_S = 3


@contextmanager
def served() -> Iterator[str]:
    """Serve the model; yield where."""
    words = ["serve", "smollm2-135m", "--memory", "400MiB", "--port", "0"]
    command = [sys.executable, "-m", "tonnage", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = process.stderr or ()
            found = (re.search(r"http://[\d.:]+", line) for line in lines)
            yield next(one for one in found if one)[0]
        finally:
            process.terminate()


def take(browser: Browser, url: str, picture: tuple[str, dict[str, int], str, float]) -> None:
    """Ask the questions at a window of that size, and take its picture."""
    name, size, scheme, scale = picture
    context = browser.new_context(viewport=size, color_scheme=scheme, device_scale_factor=scale)
    page = context.new_page()
    page.goto(url)
    page.evaluate(SETTINGS)
    page.reload()
    for question in QUESTIONS:
        page.get_by_label("Your message").fill(question)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Send").wait_for(timeout=120_000)
    time.sleep(SAMPLES_S)
    page.screenshot(path=FOLDER / name)
    context.close()


def main() -> None:
    """Take all pictures."""
    with served() as url, sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for picture in PICTURES:
            take(browser, url, picture)


if __name__ == "__main__":
    main()
