"""The page's files, as a browser asks for them."""

import re

from fastapi import FastAPI
from starlette.testclient import TestClient

from vivavoz.serve.web import FOLDER, add_page


def test_the_page_and_all_it_names_are_served_and_nothing_else_may_load() -> None:
    app = FastAPI()
    add_page(app)
    client = TestClient(app)
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    named = set(re.findall(r'(?:src|href)="(page/[^"]+)"', page.text))
    named |= {f"page/{name}" for file in FOLDER.glob("*.js") for name in re.findall(r'from "./([^"]+)"', file.read_text())}
    named |= set(re.findall(r'address\("(page/[^"]+)"\)', (FOLDER / "sound.js").read_text()))
    assert named == {f"page/{file.name}" for file in FOLDER.iterdir()} - {"page/index.html"}
    for answer in [page, *(client.get(f"/{name}") for name in named)]:
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert not re.search(r"[\w*]+\.[\w*]+", policy)  # no host
    assert not re.search(r"https?://(?!www.w3.org/2000/svg)", "".join(file.read_text() for file in FOLDER.iterdir()))
    assert client.get("/page/../web.py").status_code == 404
    assert client.get("/page/%2e%2e/web.py").status_code == 404
