import re
from pathlib import Path

import pytest

from minillm.serve.api import PAGE
from tests.serve.client import ask

FILES = sorted(path.name for path in PAGE.iterdir())


@pytest.mark.parametrize("name", FILES)
def test_the_page_is_served_with_its_types_and_nothing_from_elsewhere(address: str, name: str):
    status, headers, content = ask(address, f"/{name}", None)
    assert (status, content) == (200, (PAGE / name).read_bytes())
    kinds = {".html": "text/html", ".css": "text/css", ".js": "javascript", ".svg": "image/svg+xml"}
    assert kinds[Path(name).suffix] in headers["Content-Type"]
    assert headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert headers["X-Content-Type-Options"] == "nosniff"
    elsewhere = re.findall(r"(?:https?:)?//[\w.]+", re.sub(r"^\s*//.*$", "", content.decode(), flags=re.MULTILINE))
    assert set(elsewhere) <= {"http://www.w3.org"}  # the name of SVG


def test_what_the_page_refers_to_is_there():
    html = (PAGE / "index.html").read_text()
    assert set(re.findall(r'(?:src|href)="([^#"]+)"', html)) <= set(FILES)
    for script in PAGE.glob("*.js"):
        source = script.read_text()
        assert set(re.findall(r'from "\./(.+?)"', source)) <= set(FILES)
        for name in re.findall(r'\$\("([\w-]+)"\)', source):
            assert f'id="{name}"' in html, name


def test_every_field_has_a_label():
    html = (PAGE / "index.html").read_text()
    for kind, attributes in re.findall(r"<(input|select|textarea)\b([^>]*)>", html):
        name = re.search(r'id="([\w-]+)"', attributes)
        assert name is not None
        inside = re.search(rf'<label>[^<]*<{kind} [^>]*id="{name[1]}"', html)
        assert inside or f'for="{name[1]}"' in html, name[1]
