"""Downloads from servers whose answers are odd, and mostly legal: whole files, or one plain error at once."""

import re
import threading
import time
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mmgrid.files import addresses, http_headers
from mmgrid.files.download import DownloadError, Patience, Remote, download, look, text

BODY = bytes(range(256)) * 40
ONE, TWO = '"one"', '"two"'


@contextmanager
def server(answer):
    """`answer(start, number)` gives status, headers and body for the request of a number that asks for bytes from `start`
    (None: for all of them)."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            span = self.headers.get("Range")
            start = int(re.fullmatch(r"bytes=(\d+)-", span)[1]) if span else None
            asked.append(start)
            code, headers, body = answer(start, len(asked))
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, str(value))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/file", asked
        http.shutdown()


def fetched(url, path, pauses=None, **known):
    pauses = [] if pauses is None else pauses
    download(Remote(url, **known), path, Patience(4, 1.0, 0.01, 5.0, sleep=pauses.append))
    return path.read_bytes()


def part(start, stop=None, tag=ONE):
    """The answer to a request for bytes from `start`, up to `stop`."""
    body = BODY[start:stop]
    span = f"bytes {start}-{start + len(body) - 1}/{len(BODY)}"
    return 206, {"ETag": tag, "Content-Range": span, "Content-Length": len(body)}, body


def cut(tag=ONE, body=BODY):
    return 200, {"ETag": tag, "Content-Length": len(body)}, body[:1000]


def test_a_server_that_sends_pieces_is_asked_for_the_next_at_once(tmp_path):
    pauses = []
    with server(lambda start, n: cut() if start is None else part(start, start + 1000)) as (url, asked):
        assert fetched(url, tmp_path / "f", pauses) == BODY
    assert asked == [None, *range(1000, len(BODY), 1000)]
    assert len(pauses) == 1  # after the cut


def test_a_file_that_changes_under_a_download_is_begun_anew(tmp_path):
    """Also where the server sends the rest of the new file, though it was asked for that of the old one."""
    old = bytes(len(BODY))

    def rest_of_another(start, number):
        if number == 1:
            return cut(body=old)
        return part(start, tag=TWO) if start else (200, {"ETag": TWO, "Content-Length": len(BODY)}, BODY)

    with server(rest_of_another) as (url, asked):
        assert fetched(url, tmp_path / "f", size_bytes=len(BODY), tag=ONE) == BODY
    assert asked == [None, 1000, None]
    for other in (BODY[:-99], BODY + b"more"):  # another length than was announced for the old one
        new = (200, {"ETag": TWO, "Content-Length": len(other)}, other)
        with server(lambda start, number, new=new: cut() if number == 1 else new) as (url, _):
            assert fetched(url, tmp_path / "f", size_bytes=len(BODY), tag=ONE) == other


def test_a_tag_and_a_time_are_not_compared(tmp_path):
    """HEAD may say when the file was changed, and GET its tag."""
    with server(lambda start, number: cut() if number == 1 else part(start)) as (url, asked):
        assert fetched(url, tmp_path / "f", tag=formatdate(usegmt=True)) == BODY
    assert asked == [None, 1000]


@pytest.mark.parametrize(
    "headers",
    [{"Content-Length": "²"}, {"Content-Length": f"{len(BODY)}, {len(BODY)}"}, {}],
    ids=["no number", "twice", "none"],
)
@pytest.mark.parametrize("status", [200, 203, 206])
def test_headers_that_say_nothing(tmp_path, headers, status):
    with server(lambda start, number: (status, headers, BODY)) as (url, _):
        assert fetched(url, tmp_path / "f") == BODY


@pytest.mark.parametrize("after", ["²", "1.5", "soon", "-3", formatdate(0, usegmt=True)])
@pytest.mark.parametrize("code", [202, 503, 520, 529])
def test_servers_that_are_busy_in_their_own_way(tmp_path, code, after):
    pauses = []
    busy = (code, {"Retry-After": after, "Content-Length": 4}, b"wait")
    with server(lambda start, number: busy if number < 3 else (200, {}, BODY)) as (url, _):
        assert fetched(url, tmp_path / "f", pauses) == BODY
    assert len(pauses) == 2


def test_pauses():
    assert http_headers.pause_seconds({"Retry-After": " 7 "}) == 7.0
    assert 50 < http_headers.pause_seconds({"Retry-After": formatdate(time.time() + 60, usegmt=True)}) <= 60
    assert http_headers.pause_seconds({"Retry-After": "9" * 399}) == 1e9


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, {"Content-Length": 0}, b""), "what was sent is empty, twice; nothing was kept"),
        ((204, {}, b""), r"the server answers 204 \(No Content\); check the address"),
        ((302, {"Location": "/file"}, b""), r"the server answers 302 \([^\n]*\); check the address"),
        ((416, {}, b""), r"the server answers 416 \([^\n]*\); check the address"),
        ((501, {}, b""), r"the server answers 501 \([^\n]*\); check the address"),
    ],
    ids=["empty", "no content", "redirected to itself", "no range", "not implemented"],
)
def test_answers_without_a_file(tmp_path, answer, message):
    pauses = []
    with server(lambda start, number: answer) as (url, _), pytest.raises(DownloadError, match=message):
        fetched(url, tmp_path / "f", pauses)
    assert not pauses
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [400, 403, 405, 501])
def test_a_server_may_send_what_it_does_not_let_be_looked_at(code):
    with server(lambda start, number: (code, {}, b"")) as (url, _):
        assert look(Remote(url)) == Remote(url)
    with server(lambda start, number: (404, {}, b"")) as (url, _), pytest.raises(DownloadError, match="no such file"):
        look(Remote(url))


def test_a_text_that_is_cut_off_is_asked_for_again():
    with server(lambda start, n: (200, {"Content-Length": 6}, b"[1, 2]"[: 3 if n == 1 else 6])) as (url, asked):
        assert text(url, Patience(pause_seconds=0)) == "[1, 2]"
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("ftp://127.0.0.1:1/file", "to ftp://127.0.0.1:1/file, which is no address of a server"),
        ("file:///etc/passwd", "to file:///etc/passwd, which is no address of a server"),
        ("http://[::1", r"to http://\[::1, which is no address"),
        ("http://name:secret@host/", "to http://…@host/, which holds a name and a password"),
    ],
)
def test_redirects_to_what_cannot_be_asked(tmp_path, place, problem):
    answer = 302, {"Location": place.encode().decode("latin-1"), "Content-Length": 0}, b""
    pauses = []
    with server(lambda start, number: answer) as (url, _), pytest.raises(DownloadError, match=problem) as caught:
        fetched(url, tmp_path / "f", pauses)
    assert not pauses
    assert "secret" not in str(caught.value)


def test_a_redirect_to_a_signed_address_is_followed(tmp_path):
    def answer(start, number):
        if number == 1:
            return 302, {"Location": "/elsewhere?signed=a b%20c#d", "Content-Length": 0}, b""
        return 200, {"Content-Length": len(BODY)}, BODY

    with server(answer) as (url, _):
        assert fetched(url, tmp_path / "f") == BODY


def test_a_server_that_sends_without_end_is_not_heard_to_the_end(tmp_path):
    heard = []
    with server(lambda start, number: (200, {}, BODY * 1000)) as (url, _), pytest.raises(DownloadError) as caught:
        download(Remote(url, len(BODY)), tmp_path / "f", Patience(), heard.append)
    assert f"more was sent than the {len(BODY):,} bytes that were announced, twice" in str(caught.value)
    assert max(heard) < 500 * len(BODY)


def test_a_proxy_is_named_without_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://name:secret@127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(DownloadError, match=r"\(through the proxy 127\.0\.0\.1:1\), after 4 attempts") as caught:
        fetched("http://example.org/file", tmp_path / "f")
    assert "secret" not in str(caught.value)


def test_long_pauses_are_told(tmp_path, caplog):
    def answer(start, number):
        if number == 1:
            return 429, {"Retry-After": 5, "Content-Length": 0}, b""
        return 200, {"Content-Length": len(BODY)}, BODY

    with server(answer) as (url, _):
        fetched(url, tmp_path / "f")
    assert caplog.messages == [f"{url}: the server answers 429 (Too Many Requests); is asked again in 5 s"]


def test_an_answer_that_is_no_http_is_told_in_letters(tmp_path, monkeypatch):
    monkeypatch.setattr(
        BaseHTTPRequestHandler, "send_response", lambda self, code: self.wfile.write(b"\x1b[31m\x00\xff\r\n")
    )
    with server(lambda start, number: (200, {}, b"")) as (url, _), pytest.raises(DownloadError) as caught:
        fetched(url, tmp_path / "f")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://", "names no server"),
        ("http:///folder", "names no server"),
        ("http://[::1", r"is no address \(Invalid IPv6 URL\)"),
        ("http://host:port", "is no address"),
        ("http://host:99999", "is no address"),
        ("http://.host", r"names no server \(\.host\)"),
        (f"http://{'a' * 70}.org", "names no server"),
        ("http://host/a b", "has ' ' in it; write it as %20"),
        ("http://host/grüße", "has 'ü' in it; write it as %C3%BC"),
        ("http://name:secret@host/a", "holds a name and a password"),
        ("https://host?key=1/file", r"has \? in it"),
        ("host:80/file", "is no address of a server; it should begin with https://"),
    ],
)
def test_addresses_that_cannot_be_asked_are_told_at_once(tmp_path, url, problem):
    pauses = []
    with pytest.raises(DownloadError, match=problem) as caught:
        fetched(url, tmp_path / "f", pauses)
    assert not pauses
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://[::1]:80/a", "HTTPS://host/a%20b/", "http://münchen.example/a", "http://host./"]
)
def test_addresses_of_any_kind(url):
    assert addresses.problem(url) is None
