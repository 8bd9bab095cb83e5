"""Links, the browser's Back, and the clipboard, in a real browser."""

import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.serve.browser.conftest import slide

pytestmark = pytest.mark.browser


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


def test_another_checkpoint_can_be_talked_to(page: Page):
    page.select_option("#model", "smoke/version_0/last")
    expect(page.locator("#about")).to_contain_text("vocabulary: 65")
    page.fill("#length", "5")
    with page.expect_request("**/v1/completions") as asked:
        page.click("#generate")
    assert json.loads(asked.value.post_data or "")["model"] == "smoke/version_0/last"
    expect(page.locator("#write-status")).to_contain_text("5 tokens")


def test_text_and_link_can_be_copied(page: Page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for button, expected in (("#copy", page.locator("#text").text_content()), ("#copy-link", page.url)):
        page.click(button)
        expect(page.locator("#branch-status")).to_contain_text("copied")
        assert page.evaluate("navigator.clipboard.readText()") == expected


def test_the_written_text_goes_to_the_other_views(page: Page):
    text = page.locator("#text").text_content() or ""
    page.click("#to-surprise")
    expect(page.locator("#surprise-status")).to_contain_text("bits per character")
    assert page.locator("#surprise-result").text_content() == text
    page.get_by_role("link", name="Write").click()
    page.click("#to-attention")
    expect(page.locator("#attention-status")).to_contain_text("The last 16 tokens")
    assert page.locator("#attention-result").text_content() == text[-16:]
