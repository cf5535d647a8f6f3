"""The check of the site's pages finds what it is for; the site that was built has no faults."""

import re

import pytest
from PIL import Image

from tests import browser, pages
from tests.backends import on_one_backend

SITE = pages.ROOT / "docs" / "_build"
PAGE = '<!doctype html><meta name="viewport" content="width=device-width"><article>{}</article>'
needs_chromium = pytest.mark.skipif(
    browser.chromium() is None, reason="no Chromium: install one, or say where it is by CHROMIUM"
)

pytestmark = [on_one_backend, pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A page, the folder that is served, and its address."""
    folder = tmp_path_factory.mktemp("site")
    Image.new("RGB", (900, 100)).save(folder / "wide.png")
    (folder / "favicon.ico").touch()  # browsers ask for it
    own = tmp_path_factory.mktemp("browser")
    with browser.served(folder) as address, browser.opened(own) as page:
        yield page, folder, address


def written(opened, content):
    """Returns the address of a page; each has its own, as browsers keep what they have loaded."""
    _, folder, address = opened
    name = f"{len(list(folder.iterdir()))}.html"
    (folder / name).write_text(PAGE.format(content))
    return address + name


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("<p>All is well.</p><img src='wide.png' style='width: 90%; min-width: 560px'>", None),
        ("<pre style='overflow: auto'>" + 400 * "x" + "</pre>", None),
        ("<a href='wide.png'><img src='wide.png' width='90'></a>", None),
        ("<p style='width: 2000px'>wide</p>", "wider than the window"),
        ("<img src='none.png'>", "does not show the picture none.png"),
        ("<img src='wide.png' width='90'>", "at 10% of its size"),
        ("<script>console.error('bad')</script>", "says .*bad"),
        ("<script>undefined.x</script>", "says .*TypeError"),
        ("<script src='http://127.0.0.1:9/x.js'></script>", "asks for http://127.0.0.1:9/x.js"),
    ],
)
def test_a_fault_of_a_page_is_found(opened, content, fault):
    page, address = opened[0], written(opened, content)
    pages.show(page, address, "wide")
    found = "\n".join(pages.faults(page, address))
    assert not found if fault is None else re.search(fault, found), found


def test_a_fault_on_phones_is_found(opened):
    page, address = opened[0], written(opened, "<p style='width: 600px'>wide</p>")
    for size, fault in (("wide", False), ("narrow", True)):
        pages.show(page, address, size)
        assert bool(pages.faults(page, address)) == fault


@pytest.mark.exhaustive
@pytest.mark.skipif(not (SITE / "index.html").exists(), reason="no site was built: `make docs`")
def test_the_site_has_no_faults():
    assert list(pages.site_faults(SITE)) == []
