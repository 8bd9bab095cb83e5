"""The view that writes, in a real browser."""

import pytest
from playwright.sync_api import Page, expect

from tests.serve.browser.conftest import bars, slide

pytestmark = pytest.mark.browser


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
