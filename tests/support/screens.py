"""Pictures of a page, and what is wrong with them: blank ones, pages wider than their screen, faint text."""

import io
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from playwright.sync_api import Page

COLOURS_MIN = 12
INK_SHARE_MIN = 0.02  # of the pixels that are not of the two most frequent colours
CONTRAST_MIN = 4.5  # WCAG 2.2, 1.4.3, for text of ordinary size


@dataclass(frozen=True)
class Screen:
    """A device: its name in file names, its size in CSS pixels."""

    name: str
    width: int
    height: int


LAPTOP = Screen("laptop", 1280, 800)
PHONE = Screen("phone", 390, 844)
SCREENS = (LAPTOP, PHONE)
SCHEMES = ("light", "dark")

# Every visible text node's colour against the nearest background below it, as the browser computed both.
FAINT = """
(least) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgba("white");
  };
  const faint = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const isSeen = element.checkVisibility() && !element.closest(":disabled, script, noscript");
    if (!isSeen || !texts.currentNode.data.trim()) continue;
    const [front, back] = [rgba(getComputedStyle(element).color), behind(element)].map(light);
    const contrast = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (contrast < least) faint.push(`${contrast.toFixed(2)}: ${texts.currentNode.data.trim()}`);
  }
  return faint;
}
"""
# What reaches out of the window sideways, and controls without a name or too small for a finger.
OUTSIDE = """
() => [...document.querySelectorAll("body *")]
  .filter((element) => element.checkVisibility() && element.closest("svg") === null)
  .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
  .map((element) => element.outerHTML.slice(0, 80))
"""
NAMELESS = """
() => [...document.querySelectorAll("button, input, [role=meter], [role=img], [role=log]")]
  .filter((element) => !(element.getAttribute("aria-label") || element.getAttribute("aria-labelledby")
    || element.labels?.length || element.textContent.trim()))
  .map((element) => element.outerHTML.slice(0, 80))
"""


def photograph(page: Page, directory: Path, state: str) -> list[Path]:
    """The page as it is on every screen in every colour scheme, each picture looked at; then as before."""
    before = page.viewport_size
    pictures = []
    for screen in SCREENS:
        page.set_viewport_size({"width": screen.width, "height": screen.height})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            path = directory / f"{screen.name}-{scheme}-{state}.png"
            page.wait_for_timeout(100)  # the canvas is painted anew with the next frame
            assert_shows_something(page.screenshot(path=path), scheme)
            assert_fits(page)
            pictures.append(path)
    page.emulate_media(color_scheme="light")
    if before:
        page.set_viewport_size(before)
    return pictures


def assert_shows_something(png: bytes, scheme: str) -> None:
    """Not one colour, and as light or dark as the scheme says."""
    pixels = pixels_of(png)
    colours = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)  # one number a colour
    counts = np.unique(colours, return_counts=True)[1]
    assert len(counts) >= COLOURS_MIN, f"blank: {len(counts)} colours"
    ink = 1 - np.sort(counts)[-2:].sum() / counts.sum()
    assert ink >= INK_SHARE_MIN, f"nearly blank: {ink:.1%} of the pixels are drawn on"
    is_dark = float(np.median(pixels)) < 128
    assert is_dark == (scheme == "dark"), f"the picture is not {scheme}"


def assert_fits(page: Page) -> None:
    """Nothing reaches out sideways, every text can be read, every control has a name."""
    width, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= room, f"the page is {width} px wide on a screen of {room}: {page.evaluate(OUTSIDE)}"
    assert page.evaluate(FAINT, CONTRAST_MIN) == []
    assert page.evaluate(NAMELESS) == []


def pixels_of(png: bytes) -> np.ndarray:
    """RGB of shape (height, width, 3)."""
    with av.open(io.BytesIO(png)) as picture:
        return next(picture.decode(video=0)).to_ndarray(format="rgb24")
