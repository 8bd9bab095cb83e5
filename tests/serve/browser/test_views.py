"""The views that read a text, the runs, and the accessibility of all views, in a real browser."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


def test_surprise_colours_a_text_and_adds_it_up(page: Page):
    page.get_by_role("link", name="Surprise").click()
    page.fill("#surprise-text", "Speak, spqak.")
    page.get_by_role("button", name="Measure").click()
    expect(page.locator("#surprise-status")).to_contain_text("bits for 12 characters")
    characters = page.locator("#surprise-result [data-index]")
    expect(characters).to_have_count(13)
    characters.nth(9).hover()
    expect(page.locator("#expected")).to_contain_text("“q”: ")
    assert page.locator("#expected-bars tr.taken th").inner_text() == "q"
    amount = characters.nth(9).evaluate("span => Number(getComputedStyle(span).getPropertyValue('--amount'))")
    assert 0 < amount <= 100


def test_attention_shows_what_each_character_looked_at(page: Page):
    page.get_by_role("link", name="Inside").click()
    page.get_by_role("button", name="Look").click()
    characters = page.locator("#attention-result [data-index]")
    expect(characters).to_have_count(16)  # the smoke model's context
    characters.nth(4).hover()
    expect(page.locator("#attention-list")).to_contain_text("back (")
    expect(characters.nth(5)).to_have_css("--amount", "0")  # no look into the future
    first = characters.nth(3).evaluate("span => span.style.getPropertyValue('--amount')")
    assert 0 < float(first) < 100
    expect(page.locator("#heads button")).to_have_count(2)
    page.locator("#heads button").nth(1).click()
    expect(page.locator("#attention-caption")).to_contain_text("Layer 1, head 2")
    expect(page.locator("#lens tr")).to_have_count(2)  # the tokens, and one block
    expect(page.locator("#lens tr").nth(1).locator("td")).to_have_count(16)


def test_a_run_that_is_training_is_followed(page: Page, in_smoke_run: Path):
    page.get_by_role("link", name="Runs").click()
    expect(page.locator("#runs-status")).to_contain_text("after 20 steps")
    table = in_smoke_run / "metrics.csv"
    columns = table.read_text().splitlines()[0].split(",")
    values = {"step": "30", "val_loss": "3.21"}
    with table.open("a") as file:
        file.write(",".join(values.get(column, "") for column in columns) + "\n")
    expect(page.locator("#runs-status")).to_contain_text("3.2100 after 30 steps", timeout=2500)
    page.locator("#curve circle").first.hover()
    expect(page.locator("#curve-value")).to_contain_text("at step 10")
    page.locator("#curve circle").last.hover()
    expect(page.locator("#curve-value")).to_contain_text("validation loss 3.2100 at step 30")
    assert page.url.endswith("#runs?run=smoke%2Fversion_0")


def test_a_run_shows_its_curve_and_its_samples(page: Page):
    page.get_by_role("link", name="Runs").click()
    expect(page.locator("#curve polyline.val")).to_have_count(1)
    expect(page.locator("#runs-status")).to_contain_text("Validation loss")
    assert page.locator("#film li").count() >= 1
    expect(page.locator("#film li h4").first).to_contain_text("Step")


@pytest.mark.parametrize("view", ["Write", "Surprise", "Inside", "Runs"])
def test_every_view_is_accessible(page: Page, view: str):
    page.locator("#text [data-index]").nth(4).click()
    page.get_by_role("link", name=view).click()
    shown = {"Write": "#why-bars tr", "Surprise": "#surprise-result span", "Inside": "#lens td", "Runs": "#film li"}
    expect(page.locator(shown[view]).first).to_be_visible()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_everything_can_be_reached_with_the_keyboard(page: Page):
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert {
        "model",
        "prompt",
        "temperature",
        "top-k",
        "top-p",
        "seed",
        "length",
        "generate",
        "Surprise",
        "Runs",
    } <= reached
