"""A real Chromium for tests and for pictures of the console: the distribution's package, driven by Playwright."""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

INSTALL_LINE = "apt-get update && apt-get install -y chromium"

CHROMIUM_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium_path() -> str | None:
    """Where the distribution's Chromium is, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def take_screenshot(url: str, path: Path, *, dark: bool = False, width: int = 1280, height: int = 800) -> None:
    """A picture of a page as people see it, once its chart, if it has one, is drawn. Raises when there is no Chromium."""
    executable = chromium_path()
    if executable is None:
        raise FileNotFoundError(f"Chromium is not installed: {INSTALL_LINE}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(CHROMIUM_ARGUMENTS))
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            device_scale_factor=2,
        )
        page.goto(url)
        page.wait_for_selector("#live[data-state=live]")
        if page.query_selector("#chart"):
            page.wait_for_selector("#chart-canvas[data-drawn], #chart-state:not([hidden]):not(:text('Loading'))")
        page.screenshot(path=path, full_page=True)
        browser.close()
