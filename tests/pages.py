"""Opens every page of the site in a headless Chromium, wide and narrow, and says what is wrong.

    make docs && python -m tests.pages --pictures shots

prints the faults, one a line, and ends with status 1 if there are any; `--pictures` writes pictures
of the pages, for the eye. Chromium is taken from where `CHROMIUM` says, or from the usual places.
"""

import argparse
import base64
import sys
import tempfile
from pathlib import Path

from tests import browser

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"wide": (1280, 900, False), "narrow": (390, 844, True)}  # of a desktop, and of a phone
TALLEST = 6000  # pixels of a page that a picture shows
SLACK = 1  # a pixel of rounding
LEAST = 0.6  # of its own width, else a picture must lead to itself: its letters are too small
SEARCHED = "UperNet"
# How many pixels a page is wider than the window, and what sticks out last.
STICKING_OUT = """(() => {
    const width = document.documentElement.clientWidth;
    const right = (one) => one.getBoundingClientRect().right;
    const out = [...document.querySelectorAll("article *")].filter((one) => right(one) > width + 1);
    const last = out.length ? out[out.length - 1].outerHTML.slice(0, 80) : "";
    return [document.documentElement.scrollWidth - width, last];
})()"""
PICTURES = """[...document.querySelectorAll("article img")].map((img) => [
    img.getAttribute("src"), img.naturalWidth, img.getBoundingClientRect().width,
    img.closest("a")?.href === img.src])"""
RESULTS = """[...document.querySelectorAll("#search-results ul.search li a")].map(a => a.href)"""


def pages_of(folder):
    """Returns the paths of the site's pages, relative to its folder."""
    paths = (path.relative_to(folder) for path in Path(folder).rglob("*.html"))
    return sorted(path.as_posix() for path in paths if path.parts[0][0] != "_")


def show(page, address, size):
    """Opens a page at a size of the window, and waits until its pictures are there."""
    width, height, mobile = SIZES[size]
    page.call(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=height,
        deviceScaleFactor=1,
        mobile=mobile,
    )
    page.value("window.isThePageBefore = true")
    page.complaints.clear()
    page.requests.clear()
    page.call("Page.navigate", url=address)
    page.wait_for("!window.isThePageBefore && document.readyState === 'complete'")
    page.value("[...document.images].forEach(img => img.loading = 'eager')")
    page.wait_for("[...document.images].every(img => img.complete)")


def faults(page, address):
    """Returns what is wrong with the page that is shown, a list of str."""
    found = [f"says {complaint}" for complaint in page.complaints]
    host = address[: address.index("/", 8) + 1]
    found += [f"asks for {url}" for url in page.requests if not url.startswith((host, "data:"))]
    over, last = page.value(STICKING_OUT)
    if over > SLACK:
        found.append(f"is {over} pixels wider than the window: {last}")
    for source, width, shown, leads_to_itself in page.value(PICTURES):
        if not width or not shown:
            found.append(f"does not show the picture {source}")
        elif shown < LEAST * width and not leads_to_itself:
            found.append(f"shows {source} at {shown / width:.0%} of its size alone")
    return found


def keep(page, path):
    """Writes a picture of the whole page, or of its beginning."""
    size = page.call("Page.getLayoutMetrics")["cssContentSize"]
    clip = size | {"height": min(size["height"], TALLEST), "scale": 1}
    data = page.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(data))


def search_faults(page, address):
    """Returns what is wrong with the search: a word must lead to pages that have it."""
    show(page, f"{address}search.html?q={SEARCHED}", "wide")
    page.wait_for("document.querySelectorAll('#search-results .search-summary').length > 0")
    page.wait_for("/finished|found/i.test(document.querySelector('.search-summary').textContent)")
    results = page.value(RESULTS)
    if not any("guides/segment" in url for url in results):
        return [f"finds {SEARCHED} on no page of the guides: {results[:5]}"]
    show(page, results[0], "wide")
    there = page.value(f"document.querySelector('article').innerText.includes({SEARCHED!r})")
    return [] if there else [f"leads to {results[0]}, which has no {SEARCHED}"]


def site_faults(folder, pictures=None):
    """Yields `(page, size, fault)` of a site that was built into a folder.

    Args:
        folder: path, such as "docs/_build".
        pictures: folder for pictures of the pages; `None`: none are written.
    """
    with tempfile.TemporaryDirectory() as own:
        with browser.served(folder) as address, browser.opened(own) as page:
            for path in pages_of(folder):
                for size in SIZES:
                    show(page, address + path, size)
                    yield from ((path, size, fault) for fault in faults(page, address))
                    if pictures:
                        keep(page, Path(pictures, f"{path.removesuffix('.html')}.{size}.png"))
            yield from (("search.html", "wide", fault) for fault in search_faults(page, address))


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=ROOT / "docs" / "_build")
    parser.add_argument("--pictures", metavar="FOLDER")
    given = parser.parse_args(arguments)
    if browser.chromium() is None:
        parser.error("no Chromium: install one, or say where it is by CHROMIUM")
    if not Path(given.folder, "index.html").is_file():
        parser.error(f"no site in {given.folder}: run `make docs` first")
    found = 0
    for page, size, fault in site_faults(given.folder, given.pictures):
        found += 1
        print(f"{page}, {size}: {fault}")
    print(f"{len(pages_of(given.folder))} pages, {found} faults.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
