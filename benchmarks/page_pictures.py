"""Pictures of the web page for README.md and docs/: a GIF of a click, a slider and a branch, and one PNG per view.

python -m minillm serve --ckpt_path best &
python benchmarks/page_pictures.py http://127.0.0.1:8000
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, ViewportSize, expect, sync_playwright

FOLDER = Path(__file__).parent / "reference"
SIZE = ViewportSize(width=1000, height=760)
PLACE = 30  # token of the text that is clicked
COLORS = 64
TEMPERATURES = (0.8, 0.6, 0.4, 0.2, 0.6, 1.0, 1.4, 1.8, 1.4, 1.0, 0.8)


def main() -> None:
    """Take all pictures, with the model that the server names first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="address of the server")
    address = parser.parse_args().address
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.goto(address)
        expect(page.locator("#write-status")).to_contain_text("tokens, seed 1", timeout=20_000)
        save_gif(page, FOLDER / "page.gif")
        save_views(page)
        browser.close()


def save_gif(page: Page, file: Path) -> None:
    """Save an animation: a token is clicked, the temperature is moved, and another token is chosen."""
    page.evaluate("scrollTo(0, 320)")
    frames, milliseconds = [picture(page)], [1500]
    page.locator("#text [data-index]").nth(PLACE).click()
    for temperature in TEMPERATURES:
        slide(page, "#temperature", temperature)
        frames.append(picture(page))
        milliseconds.append(350)
    milliseconds[1] = milliseconds[-1] = 1500
    page.locator("#why-bars button").nth(1).click()
    expect(page.locator("#write-status")).to_contain_text("tokens, seed")
    page.locator("#text [data-index]").nth(PLACE).hover()
    frames.append(picture(page))
    milliseconds.append(3000)
    palette = frames[1].quantize(COLORS, Image.Quantize.MAXCOVERAGE)
    first, *others = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    first.save(file, save_all=True, append_images=others, duration=milliseconds, loop=0, optimize=True)


def save_views(page: Page) -> None:
    """Save a picture of each view."""
    page.evaluate("scrollTo(0, 0)")
    save_png(page, "write")
    page.click("#to-surprise")
    expect(page.locator("#surprise-status")).to_contain_text("bits per character")
    page.locator("#surprise-result [data-index]").nth(PLACE).hover()
    save_png(page, "surprise")
    page.get_by_role("link", name="Inside").click()
    page.get_by_role("button", name="Look").click()
    expect(page.locator("#lens td").first).to_be_visible()
    save_png(page, "inside", full_page=True)
    page.get_by_role("link", name="Runs").click()
    oldest = page.locator("#run option").last.get_attribute("value")
    page.locator("#run").select_option(oldest)
    expect(page.locator("#film li").first).to_be_visible()
    save_png(page, "runs")


def save_png(page: Page, view: str, full_page: bool = False) -> None:
    """Save a screenshot with few colors."""
    shown = Image.open(io.BytesIO(page.screenshot(full_page=full_page))).convert("RGB")
    shown.quantize(COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        FOLDER / f"page_{view}.png", optimize=True
    )


def slide(page: Page, slider: str, value: float) -> None:
    """Set a slider, as moving it does."""
    page.locator(slider).evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value
    )


def picture(page: Page) -> Image.Image:
    """Take a screenshot at 4/5 of its size."""
    shown = Image.open(io.BytesIO(page.screenshot()))
    return shown.convert("RGB").resize((SIZE["width"] * 4 // 5, SIZE["height"] * 4 // 5), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
