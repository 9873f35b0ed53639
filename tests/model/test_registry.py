"""Weights by name: fetched once from a server on this machine, checked, refused in words."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from etinynet.artefact import sha256
from etinynet.errors import ArtefactError
from etinynet.model import registry
from etinynet.model.registry import ENTRIES, Entry, cache_folder, fetch, packaged

CONTENT = b"weights" * 1000


class _Handler(BaseHTTPRequestHandler):
    served = 0

    def do_GET(self):
        _Handler.served += 1
        if self.path == "/absent":
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(CONTENT[:-1] if self.path == "/short" else CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("ETINYNET_HOME", str(tmp_path / "home"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def offer(place: str, digest: str = sha256(CONTENT)) -> None:
        url = f"http://127.0.0.1:{server.server_port}/{place}"
        entry = Entry("net", "net.params", "a test", url, digest, len(CONTENT))
        monkeypatch.setattr(registry, "ENTRIES", (entry,))

    yield offer
    server.shutdown()
    server.server_close()
    thread.join()


def test_fetched_once(server):
    server("file")
    before = _Handler.served
    path = fetch("net")
    assert path == cache_folder() / "net.params"
    assert path.read_bytes() == CONTENT
    assert fetch("net") == path
    assert _Handler.served == before + 1


@pytest.mark.parametrize("place", ["short", "file"])
def test_other_content_leaves_nothing_behind(server, place):
    server(place, sha256(b"other"))
    with pytest.raises(ArtefactError, match="SHA-256 is not the recorded"):
        fetch("net")
    assert not cache_folder().exists()


def test_damaged_cache_is_named(server):
    server("file")
    path = fetch("net")
    path.write_bytes(b"damaged")
    with pytest.raises(ArtefactError, match=r"net\.params: delete this file to fetch it again"):
        fetch("net")


def test_server_refuses(server):
    server("absent")
    with pytest.raises(ArtefactError, match="the server answers 404; fetch it elsewhere and run"):
        fetch("net")


def test_no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("ETINYNET_HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    entry = Entry("net", "net.params", "a test", "http://127.0.0.1:9/net", "0" * 64, 1)
    monkeypatch.setattr(registry, "ENTRIES", (entry,))
    with pytest.raises(ArtefactError, match=r"cannot fetch http://127.0.0.1:9/net: ") as caught:
        fetch("net")
    assert "\n" not in str(caught.value)


def test_unwritable_cache(server, monkeypatch, tmp_path):
    server("file")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ETINYNET_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(ArtefactError, match="cannot make this folder"):
        fetch("net")


def test_unknown_name_and_packaged_names():
    with pytest.raises(ArtefactError, match=r"unknown weights 'x'; allowed: sign-digits, imagenet"):
        fetch("x")
    with pytest.raises(ArtefactError, match="is in the package and is not fetched"):
        fetch("sign-digits")
    with pytest.raises(ArtefactError, match="is not in the package"):
        packaged("imagenet")


def test_recorded_hashes_are_those_of_the_files(shared_data):
    for entry in ENTRIES:
        if entry.url is not None:
            data = (shared_data / "weights" / entry.file).read_bytes()
            assert (sha256(data), len(data)) == (entry.sha256, entry.size)
