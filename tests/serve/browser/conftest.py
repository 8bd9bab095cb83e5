"""The page in a real browser: `pytest -m browser`, with Debian's chromium installed."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright

PICTURES = os.environ.get("MINILLM_PICTURES")  # a folder for screenshots


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


def _is_defect(message: ConsoleMessage) -> bool:
    return message.type == "error" and "status of 400" not in message.text  # which the browser reports by itself


@pytest.fixture(params=["wide", "phone"])
def page(request: pytest.FixtureRequest, chromium: Any, address: str) -> Iterator[Page]:
    """The page on a screen, or a phone with a dark one; it may not report an error, nor ask others for anything."""
    wide = request.param == "wide"
    view = {"width": 1280, "height": 800} if wide else {"width": 390, "height": 740}
    context = chromium.new_context(viewport=view, color_scheme="light" if wide else "dark")
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if _is_defect(message) else None)
    page.on("request", lambda asked: None if asked.url.startswith(address) else problems.append(asked.url))
    page.goto(address)
    expect(page.locator("#about")).to_contain_text("layers")
    expect(page.locator("#write-status")).to_have_text("500 tokens, seed 1", timeout=20_000)  # the first text
    page.click("#more summary")
    yield page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out
    if PICTURES:
        page.screenshot(path=Path(PICTURES, f"{request.node.name.replace('[', '-').rstrip(']')}.png"))
    context.close()
    assert not problems


def slide(page: Page, slider: str, value: float) -> None:
    """Set a slider, as moving it does."""
    page.locator(slider).evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value
    )


def bars(page: Page) -> dict[str, str]:
    """The shares that the bars show, by token."""
    return dict(row.split("\t") for row in page.locator("#why-bars").inner_text().splitlines())
