"""The page, in a real browser: `pytest -m browser`, with Debian's chromium installed."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright

pytestmark = pytest.mark.browser
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
    view = {"width": 1100, "height": 800} if wide else {"width": 360, "height": 740}
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


def test_another_token_can_be_chosen_and_always_writes_the_same(page: Page):
    before = page.locator("#text").text_content() or ""
    branches: list[str] = []
    for number in range(2):
        page.locator("#text [data-index]").nth(4).click()
        choice = page.locator("#why-bars button").nth(1)
        token = {"space": " ", "new line": "\n"}.get(choice.inner_text(), choice.inner_text())
        choice.click()
        expect(page.locator("#write-status")).to_have_text("495 tokens, seed 1")
        expect(page.locator("#text .by-hand")).to_have_text(token, use_inner_text=False)
        branches.append(page.locator("#text").text_content() or "")
        assert branches[-1].startswith(before[: len("ROMEO:\n") + 4] + token)
        for _ in range(number + 1):
            page.click("#back")
        assert page.locator("#text").text_content() == before
    assert branches[0] == branches[1] != before
    page.click("#forward")
    assert page.locator("#text").text_content() == branches[0]
    expect(page.locator("#branch-status")).to_have_text("Text 2 of 3")


def test_a_link_shows_the_text_of_its_author(page: Page, chromium: Any):
    slide(page, "#temperature", 1.2)
    page.fill("#seed", "7")
    page.click("#generate")
    expect(page.locator("#write-status")).to_have_text("500 tokens, seed 7")
    page.locator("#text [data-index]").nth(2).click()
    page.locator("#why-bars button").nth(0).click()
    expect(page.locator("#write-status")).to_contain_text("497 tokens")
    other = chromium.new_context().new_page()
    other.goto(page.url)
    expect(other.locator("#write-status")).to_contain_text("497 tokens")
    assert other.locator("#text").text_content() == page.locator("#text").text_content()
    other.context.close()


def test_a_link_is_followed_in_a_page_that_is_open(page: Page):
    page.evaluate("location.hash = '#write?model=smoke/version_0/last&seed=9&tokens=40&temperature=1.5&top_k=7'")
    expect(page.locator("#write-status")).to_have_text("40 tokens, seed 9")
    assert page.locator("#model").input_value() == "smoke/version_0/last"
    assert page.locator("#prompt").input_value() == ""
    assert [page.locator(f"#{name}-value").inner_text() for name in ("temperature", "top-k", "top-p")] == [
        "1.50",
        "7",
        "all",
    ]
    text = page.locator("#text").text_content()
    page.reload()
    expect(page.locator("#write-status")).to_have_text("40 tokens, seed 9")
    assert page.locator("#text").text_content() == text
    page.evaluate("location.hash = '#attention?model=smoke/version_0/best&text=Speak&layer=1&head=2'")
    expect(page.locator("#attention-status")).to_have_text("5 tokens")
    expect(page.locator("#attention-caption")).to_contain_text("Layer 1, head 2")
    page.reload()
    expect(page.locator("#attention-caption")).to_contain_text("Layer 1, head 2")
    page.evaluate("location.hash = '#write?model=gone&seed=2'")
    expect(page.get_by_role("alert")).to_contain_text("there is no model “gone” here")
    page.click("#more summary")


def test_back_returns_to_the_text_before(page: Page):
    first = page.locator("#text").text_content()
    page.click("#die")
    expect(page.locator("#branch-status")).to_have_text("Text 2 of 2")
    expect(page.locator("#write-status")).to_contain_text("500 tokens")
    second = page.locator("#text").text_content()
    page.locator("#text [data-index]").nth(9).click()
    page.locator("#why-bars button").nth(1).click()
    expect(page.locator("#write-status")).to_contain_text("490 tokens")
    page.go_back()
    expect(page.locator("#branch-status")).to_have_text("Text 2 of 3")
    assert page.locator("#text").text_content() == second
    page.go_back()
    expect(page.locator("#branch-status")).to_have_text("Text 1 of 3")
    assert page.locator("#text").text_content() == first
    assert page.locator("#seed").input_value() == "1"
    page.go_forward()
    expect(page.locator("#branch-status")).to_have_text("Text 2 of 3")


def test_a_clicked_token_stays_chosen_until_it_is_clicked_again(page: Page):
    tokens = page.locator("#text [data-index]")
    tokens.nth(4).click()
    tokens.nth(60).hover()
    expect(page.locator("#text .chosen")).to_have_attribute("data-index", "4")
    tokens.nth(4).click()
    expect(page.locator("#why-bars tr")).to_have_count(0)
    tokens.nth(20).hover()
    expect(page.locator("#text .chosen")).to_have_attribute("data-index", "20")


def test_what_a_token_had_when_it_was_drawn_is_kept(page: Page):
    page.locator("#text [data-index]").nth(7).click()
    before = page.locator("#why").inner_text()
    assert before.startswith("Drawn at random: “")
    slide(page, "#temperature", 0)
    assert page.locator("#why").inner_text().startswith(f"{before} With these settings: ")


def test_another_model_writes_its_own_text_and_looks_again(page: Page):
    page.get_by_role("link", name="Surprise").click()
    expect(page.locator("#surprise-status")).to_contain_text("bits per character")
    bits = page.locator("#surprise-status").inner_text()
    page.get_by_role("link", name="Write").click()
    page.locator("#text [data-index]").nth(4).click()
    page.locator("#why-bars button").nth(1).click()
    expect(page.locator("#branch-status")).to_have_text("Text 2 of 2")
    page.select_option("#model", "smoke/version_0/last")
    expect(page.locator("#branch-status")).to_be_empty()
    expect(page.locator("#write-status")).to_have_text("500 tokens, seed 1")
    assert "model=smoke%2Fversion_0%2Flast" in page.url
    with page.expect_request("**/v1/completions") as asked:
        page.get_by_role("link", name="Surprise").click()
    assert json.loads(asked.value.post_data or "")["model"] == "smoke/version_0/last"
    expect(page.locator("#surprise-status")).to_have_text(bits)  # the best checkpoint is the last one


def test_text_and_link_can_be_copied(page: Page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for button, expected in (("#copy", page.locator("#text").text_content()), ("#copy-link", page.url)):
        page.click(button)
        expect(page.locator("#branch-status")).to_contain_text("copied")
        assert page.evaluate("navigator.clipboard.readText()") == expected


def test_sliders_reshape_the_bars_without_a_request(page: Page):
    page.locator("#text [data-index]").nth(7).click()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    shares = bars(page)
    slide(page, "#temperature", 0)
    assert sum(share == "100 %" for share in bars(page).values()) == 1
    slide(page, "#temperature", 2)
    assert bars(page) != shares
    slide(page, "#top-k", 2)
    assert page.locator("#why-bars tr:not(.cut)").count() in (2, 3)  # and the token that was drawn
    assert asked == []
    duration = page.evaluate(
        "() => { const slider = document.getElementById('temperature'); const start = performance.now();"
        " for (let i = 0; i < 20; i++) slider.dispatchEvent(new Event('input'));"
        " return (performance.now() - start) / 20; }"
    )
    assert duration < 16  # milliseconds, a frame


def test_a_click_in_a_long_text_is_answered_at_once(page: Page):
    page.fill("#length", "4096")
    page.click("#generate")
    expect(page.locator("#write-status")).to_contain_text("4096 tokens", timeout=30_000)
    duration = page.evaluate(
        "() => { const spans = document.querySelectorAll('#text [data-index]'); const start = performance.now();"
        " for (let i = 0; i < 20; i++) { spans[i * 200].click(); document.getElementById('why-bars').offsetHeight; }"
        " return (performance.now() - start) / 20; }"
    )
    assert duration < 50  # milliseconds, with the layout of the page


def test_escape_stops_and_the_command_is_shown(page: Page):
    page.fill("#length", "4096")
    page.click("#generate")
    expect(page.locator("#text [data-index]").nth(20)).to_be_attached()
    page.keyboard.press("Escape")
    expect(page.locator("#write-status")).to_contain_text("Stopped after")
    command = page.locator("#command").text_content() or ""
    assert command.startswith(
        "minillm predict --ckpt_path lightning_logs/smoke/version_0/checkpoints/best.ckpt --prompt 'ROMEO:\n'"
    )
    written = page.locator("#text [data-index]").count()
    assert f"--max_new_tokens {written} --temperature 0.8 --seed 1" in command


def test_text_streams_in_and_every_character_says_what_it_was_drawn_from(page: Page):
    page.fill("#prompt", "ROMEO:\n")
    page.fill("#seed", "1")
    page.fill("#length", "60")
    slide(page, "#top-k", 5)
    page.click("#generate")
    expect(page.locator("#write-status")).to_have_text("60 tokens, seed 1")
    characters = page.locator("#text [data-index]")
    expect(characters).to_have_count(60)
    characters.nth(3).hover()
    expect(page.locator("#why-bars tr:not(.cut)")).to_have_count(5)
    expect(page.locator("#why-bars tr.taken")).to_have_count(1)
    before = page.locator("#why").inner_text()
    characters.nth(3).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(characters.nth(5)).to_be_focused()
    assert page.locator("#why").inner_text() != before
    page.keyboard.press("End")
    expect(characters.nth(59)).to_be_focused()


def test_writing_can_be_stopped_and_goes_on_where_it_was(page: Page):
    page.fill("#length", "4096")
    page.click("#generate")
    expect(page.locator("#text [data-index]").nth(20)).to_be_attached()
    page.click("#stop")
    expect(page.locator("#write-status")).to_contain_text("Stopped after")
    text = page.locator("#text").text_content() or ""
    page.fill("#length", "30")
    page.click("#continue")
    expect(page.locator("#write-status")).to_contain_text("30 tokens")
    longer = page.locator("#text").text_content() or ""
    assert longer.startswith(text)
    assert len(longer) == len(text) + 30


def test_the_same_seed_writes_the_same(page: Page):
    page.fill("#seed", "7")
    page.fill("#length", "50")
    texts = []
    for _ in range(2):
        page.click("#generate")
        expect(page.locator("#write-status")).to_have_text("50 tokens, seed 7")
        texts.append(page.locator("#text").text_content())
    assert texts[0] == texts[1]


def test_what_is_wrong_is_said(page: Page):
    page.fill("#prompt", "<b>é</b>")
    page.click("#generate")
    expect(page.get_by_role("alert")).to_contain_text("is not in the vocabulary of 65 characters")
    assert page.locator("#text b").count() == 0
    page.fill("#prompt", "A")
    page.fill("#length", "5")
    page.click("#generate")
    expect(page.locator("#write-status")).to_contain_text("5 tokens")
    expect(page.locator("#trouble")).to_be_hidden()


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


def test_the_written_text_goes_to_the_other_views(page: Page):
    text = page.locator("#text").text_content() or ""
    page.click("#to-surprise")
    expect(page.locator("#surprise-status")).to_contain_text("bits per character")
    assert page.locator("#surprise-result").text_content() == text
    page.get_by_role("link", name="Write").click()
    page.click("#to-attention")
    expect(page.locator("#attention-status")).to_contain_text("The last 16 tokens")
    assert page.locator("#attention-result").text_content() == text[-16:]


def test_copies_from_the_training_text_are_underlined(page: Page):
    expect(page.locator("#copies-status")).to_have_text("no copy of 15 characters or more")
    matches = [{"start": 2, "length": 16, "line": 7}, {"start": 30, "length": 40, "line": 1234}]
    answer = {"corpus": "tinyshakespeare", "matches": matches}
    page.route("**/verbatim_matches", lambda route: route.fulfill(json=answer))
    page.click("#generate")
    expect(page.locator("#copies-status")).to_contain_text("2 copies from “tinyshakespeare”, the longest of 40 char")
    text = page.locator("#text").text_content() or ""
    copied = page.locator("#text .copy")
    generated = text[len("ROMEO:\n") : 18] + text[30:70]  # the first one begins in the prompt
    assert "".join(copied.all_text_contents()) == generated
    place = "One of 40 characters that are in line 1,234 of “tinyshakespeare”"
    expect(copied.last).to_have_attribute("title", place)
    copied.last.click()
    expect(page.locator("#why-copy")).to_have_text(place)
    page.locator("#text [data-index]").last.focus()
    expect(page.locator("#why-copy")).to_be_empty()
    slide(page, "#copies-length", 17)
    expect(page.locator("#copies-status")).to_contain_text("1 copy from")
    assert "".join(copied.all_text_contents()) == text[30:70]
    refusal = {"error": {"message": "the training text is not there", "type": "", "param": None, "code": None}}
    page.route("**/verbatim_matches", lambda route: route.fulfill(status=400, json=refusal))
    page.click("#generate")
    expect(page.locator("#copies-status")).to_have_text("No copies are shown: the training text is not there")
    expect(copied).to_have_count(0)


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


def test_another_checkpoint_can_be_talked_to(page: Page):
    page.select_option("#model", "smoke/version_0/last")
    expect(page.locator("#about")).to_contain_text("vocabulary: 65")
    page.fill("#length", "5")
    with page.expect_request("**/v1/completions") as asked:
        page.click("#generate")
    assert json.loads(asked.value.post_data or "")["model"] == "smoke/version_0/last"
    expect(page.locator("#write-status")).to_contain_text("5 tokens")


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
