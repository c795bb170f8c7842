"""Fetching from servers that stall, cut, lie, refuse ranges and are busy: whole files, or one clear error."""

import errno
import gzip
import hashlib
import json
import re
import threading
import urllib.request
from email.utils import formatdate
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

from mmgrid.data import READERS, DataError
from mmgrid.data import fetching as module
from mmgrid.data.fetching import fetch
from mmgrid.data.readers import unpacking
from mmgrid.files import DiskFull
from mmgrid.files import download as downloading
from mmgrid.files.download import DownloadError, Patience

T = 1_660_000_000_000
LOG = "user_id,parent_asin,rating,timestamp\n" + "".join(f"u{n},B{n % 7},5.0,{T + n * 977}\n" for n in range(4000))
ITEMS = "".join(json.dumps({"parent_asin": f"B{n}", "title": f"Item {n}"}) + "\n" for n in range(7))
DOMAIN = "Gift_Cards"


class Server(ThreadingHTTPServer):
    """Serves bytes by path. `faults`: what goes wrong in the next GETs, one for each; then all is well."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.asked: list[tuple[str, str, str | None]] = []
        self.looked: list[str] = []
        self.ranges = self.heads = True
        self.tag = '"one"'
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.server.looked.append(self.path)
        body = self.server.files.get(self.path)
        if body is None or not self.server.heads:
            self.answer(405 if body is not None else 404, {})
        else:
            self.answer(200, {"Content-Length": str(len(body)), "ETag": self.server.tag})

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append((self.command, self.path, asked))
        body = server.files.get(self.path)
        if body is None:
            self.answer(404, {})
            return
        fault = server.faults.pop(0) if server.faults and not self.path.startswith("/api") else ""
        if fault.startswith(("429", "503")):
            code, _, after = fault.partition(" ")
            self.answer(int(code), {"Retry-After": after, "Content-Length": "0"})
            return
        start = 0
        valid = self.headers.get("If-Range") in (None, server.tag)
        headers = {"ETag": server.tag}
        if asked and server.ranges and valid:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(body):
                self.answer(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
                return
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        rest = body[start:]
        half = rest[: len(rest) // 2]
        if fault == "other bytes":
            rest = half = bytes(len(rest))
        headers["Content-Length"] = str(len(rest) + 1000 * (fault == "too long"))
        if fault == "too short":
            rest = half
            headers["Content-Length"] = str(len(half))
        self.answer(206 if start else 200, headers)
        self.wfile.write(half if fault in ("cut", "stall") else rest)
        self.wfile.flush()
        if fault == "stall":
            server.ended.wait(5)
        self.close_connection = True

    def answer(self, code, headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.files = {
        f"/benchmark/5core/rating_only/{DOMAIN}.csv.gz": gzip.compress(LOG.encode()),
        f"/raw/meta_categories/meta_{DOMAIN}.jsonl.gz": gzip.compress(ITEMS.encode()),
    }
    yield server
    server.ended.set()
    server.shutdown()
    server.server_close()


def run(server, root, pauses=None, **more):
    patience = Patience(4, 0.3, 0.01, 5.0, sleep=pauses.append if pauses is not None else lambda seconds: None)
    return fetch(root, [DOMAIN], base_url=server.url, patience=patience, **more)


def whole(server, root):
    names = sorted(path.name for path in root.iterdir())
    assert names == [f"{DOMAIN}.csv.gz", f"meta_{DOMAIN}.jsonl.gz"]
    for path, body in server.files.items():
        assert (root / path.rpartition("/")[2]).read_bytes() == body
    assert len(READERS["amazon2023"].read(root, DOMAIN).interactions) == 4000


@pytest.mark.parametrize(
    "faults",
    [[], ["cut"], ["stall"], ["cut", "stall", "cut"], ["too long"], ["429 1", "503 2"], ["503", "cut"], ["too short"]],
    ids=" then ".join,
)
@pytest.mark.parametrize("ranges", [True, False])
def test_files_arrive_whole(server, tmp_path, faults, ranges):
    server.faults, server.ranges = faults, ranges
    seen = []
    files = run(server, tmp_path / "new/root", progress=lambda *event: seen.append(event))
    assert [file.name for file in files] == [f"{DOMAIN}.csv.gz", f"meta_{DOMAIN}.jsonl.gz"]
    whole(server, tmp_path / "new/root")
    size = len(server.files[f"/benchmark/5core/rating_only/{DOMAIN}.csv.gz"])
    assert (f"{DOMAIN}.csv.gz", size, size) in seen
    count = len(server.asked)
    run(server, tmp_path / "new/root")  # nothing is fetched twice
    assert len(server.asked) == count


def test_what_has_arrived_is_not_asked_for_again(server, tmp_path):
    server.faults = ["cut", "429 6"]  # a longer pause than the patience
    with pytest.raises(DownloadError, match=r"answers 429 .*, and asks to wait 6 s; what has arrived is kept"):
        run(server, tmp_path)
    first = server.files[f"/benchmark/5core/rating_only/{DOMAIN}.csv.gz"]
    assert (tmp_path / f"{DOMAIN}.csv.gz.part").stat().st_size == len(first) // 2
    run(server, tmp_path)
    assert server.asked[2][2] == f"bytes={len(first) // 2}-"
    whole(server, tmp_path)


def test_a_file_that_has_changed_is_begun_anew(server, tmp_path):
    server.faults = ["cut", "503 6"]
    with pytest.raises(DownloadError, match="503"):
        run(server, tmp_path)
    path = f"/benchmark/5core/rating_only/{DOMAIN}.csv.gz"
    server.files[path] = gzip.compress((LOG.replace("5.0", "4.0")).encode())
    server.tag = '"two"'
    run(server, tmp_path)
    whole(server, tmp_path)


def test_pauses_are_those_that_the_server_asks_for(server, tmp_path):
    pauses: list[float] = []
    server.faults = ["429 3", f"503 {formatdate(usegmt=True)}", "cut"]
    run(server, tmp_path, pauses)
    assert pauses[0] == 3.0
    assert pauses[1] == 0.0  # a date that has passed
    assert 0 < pauses[2] < 1


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (["503"] * 4, "answers 503 .*, after 4 attempts; what has arrived is kept: run the same command again later"),
        (["stall"] * 9, "nothing came for .*, after 4 attempts"),
        (["too long"] * 9, "after 4 attempts"),
        (["other bytes"] * 9, r"is no whole gzip file \(.*\), twice; nothing was kept"),
    ],
)
def test_a_server_that_never_gets_better_is_one_error(server, tmp_path, faults, message):
    server.faults, server.ranges = faults, False
    server.heads = faults[0] != "too long"
    with pytest.raises((DownloadError, DataError), match=message):
        run(server, tmp_path)
    assert not (tmp_path / f"{DOMAIN}.csv.gz").exists()


def test_files_that_are_not_there(server, tmp_path):
    with pytest.raises(DataError, match=r"Gift_Card: is no category .*; did you mean Gift_Cards\?"):
        fetch(tmp_path, ["Gift_Card"], base_url=server.url)
    server.files.clear()
    with pytest.raises(DownloadError, match=r"Gift_Cards\.csv\.gz: the server has no such file"):
        run(server, tmp_path)
    with pytest.raises(DownloadError, match="is no address of a server"):
        fetch(tmp_path, [DOMAIN], base_url="file:///etc")
    server.server_close()
    with pytest.raises(DownloadError, match="refused, after 2 attempts"):
        fetch(tmp_path, [DOMAIN], base_url=server.url, patience=Patience(2, 0.3, 0.01))


@pytest.mark.parametrize("end", ["", ".part", ".part.json"])
def test_a_folder_in_place_of_a_file(server, tmp_path, end):
    (tmp_path / f"{DOMAIN}.csv.gz{end}").mkdir()
    with pytest.raises(DownloadError, match=rf"csv\.gz{re.escape(end)}: is a folder"):
        run(server, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: is a file, and files are to be fetched into a folder"):
        run(server, tmp_path / "file")


def test_room_is_checked_before_anything_is_fetched(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 10_000}))
    with pytest.raises(DiskFull, match=r"are to be fetched, and .* free; nothing was fetched"):
        run(server, tmp_path)
    assert not server.asked
    assert not list(tmp_path.iterdir())


def test_the_hub_with_shards_and_checksums(server, tmp_path):
    repo, folder = "datasets/McAuley-Lab/Amazon-Reviews-2023", f"raw_meta_{DOMAIN}"
    files = {f"benchmark/5core/rating_only/{DOMAIN}.csv": LOG.encode()}
    for place in range(2):
        table = pl.DataFrame([json.loads(line) for line in ITEMS.splitlines()])[place * 4 : place * 4 + 4]
        table.write_parquet(tmp_path / "shard.parquet")
        files[f"{folder}/full-0000{place}-of-00002.parquet"] = (tmp_path / "shard.parquet").read_bytes()
    others = [{"path": "benchmark/5core/rating_only/Books.csv", "type": "file", "size": 9}]
    for name in ("benchmark/5core/rating_only", folder):
        entries = [
            {"path": path, "size": len(body), "lfs": {"oid": hashlib.sha256(body).hexdigest(), "size": len(body)}}
            for path, body in files.items()
            if path.startswith(name)
        ]
        server.files[f"/api/{repo}/tree/main/{name}"] = json.dumps(others + entries).encode()
    server.files |= {f"/{repo}/resolve/main/{path}": body for path, body in files.items()}
    server.faults = ["other bytes"]  # the checksum finds it, and the file is fetched again
    fetched = run(server, tmp_path / "root", source="hub")
    assert [path.relative_to(tmp_path / "root").as_posix() for path in fetched] == list(files)
    assert all((tmp_path / "root" / path).read_bytes() == body for path, body in files.items())
    raw = READERS["amazon2023"].read(tmp_path / "root", DOMAIN)
    assert len(raw.items) == 7
    server.faults = ["other bytes", "other bytes"]
    (tmp_path / "root" / fetched[1].relative_to(tmp_path / "root")).unlink()
    with pytest.raises(DownloadError, match=r"its SHA-256 is .*, twice; nothing was kept"):
        run(server, tmp_path / "root", source="hub")


def test_the_command(server, tmp_path, monkeypatch):
    from kits.tiny_grid import mmgrid

    phases = "".join(
        f'{name} = ["20{n}-01-01", "20{n + 1}-01-01"]\n'
        for n, name in enumerate(("pretrain", "phase1", "phase2", "test"), 20)
    )
    grid = tmp_path / "g.toml"
    grid.write_text(
        f'name = "g"\n[data]\nformat = "amazon2023"\nroot = "raw"\ndomains = ["{DOMAIN}"]\n[paradigms.sasrec]\n[phases]\n{phases}'
    )
    monkeypatch.setenv("MMGRID_FETCH_URL", server.url)
    assert [Path(file).name for file in mmgrid("data", "fetch", grid, "--json").json["files"]] == [
        f"{DOMAIN}.csv.gz",
        f"meta_{DOMAIN}.jsonl.gz",
    ]
    whole(server, tmp_path / "raw")


def test_a_file_gets_its_name_after_its_checksum_is_right(server, tmp_path, monkeypatch):
    """What is killed in the check, or fails in it for another reason than damage, leaves what has arrived."""
    name = f"{DOMAIN}.csv.gz"

    def broken(self, size, line):
        raise unpacking.unreadable(self.path, OSError(errno.EIO, "Input/output error"))

    def killed(self, size, line):
        raise KeyboardInterrupt

    for fault, error in ((broken, DataError), (killed, KeyboardInterrupt)):
        with monkeypatch.context() as patch:
            patch.setattr(unpacking.Unpacked, "read", fault)
            with pytest.raises(error):
                run(server, tmp_path)
        assert not (tmp_path / name).exists()
        body = server.files[f"/benchmark/5core/rating_only/{name}"]
        assert (tmp_path / f"{name}.part").read_bytes() == body
    server.asked.clear()
    run(server, tmp_path)
    assert [path for _, path, _ in server.asked] == [f"/raw/meta_categories/meta_{DOMAIN}.jsonl.gz"]
    whole(server, tmp_path)


def test_damage_is_fetched_again(server, tmp_path):
    server.faults, server.ranges = ["other bytes"], False
    run(server, tmp_path)
    whole(server, tmp_path)


@pytest.mark.parametrize("longer", [0, 5])
def test_a_server_that_has_nothing_left_to_send(server, tmp_path, longer):
    """It answers 416 to a range after the end: then what has arrived is the file, if it is as long."""
    server.heads = False
    name = f"{DOMAIN}.csv.gz"
    body = server.files[f"/benchmark/5core/rating_only/{name}"]
    (tmp_path / f"{name}.part").write_bytes(body + bytes(longer))
    url = f"{server.url}/benchmark/5core/rating_only/{name}"
    (tmp_path / f"{name}.part.json").write_text(json.dumps({"url": url, "tag": server.tag}))
    run(server, tmp_path)
    asked = [span for _, path, span in server.asked if path.endswith(name)]
    assert asked == [f"bytes={len(body) + longer}-", *([None] if longer else [])]
    whole(server, tmp_path)


def test_a_network_that_is_away_for_a_while(server, tmp_path, monkeypatch):
    """The system reports some failures of the network as plain errors, in sending as in receiving."""
    opened, read, faults = urllib.request.OpenerDirector.open, HTTPResponse.read1, [errno.EHOSTUNREACH, errno.ENETDOWN]

    def once_in_opening(*args, **options):
        if len(faults) == 2:
            raise OSError(faults.pop(), "the network is away")
        return opened(*args, **options)

    def once_in_reading(self, *args):
        if faults:
            raise OSError(faults.pop(), "the host is away")
        return read(self, *args)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", once_in_opening)
    monkeypatch.setattr(HTTPResponse, "read1", once_in_reading)
    pauses: list[float] = []
    run(server, tmp_path, pauses)
    assert len(pauses) == 2
    whole(server, tmp_path)

    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / f"{DOMAIN}.csv.gz").unlink()
    monkeypatch.setattr(downloading, "write_json", full)
    with pytest.raises(DiskFull):  # a disk is not waited for
        run(server, tmp_path, pauses)
    assert len(pauses) == 2


def test_what_the_reader_takes_is_not_fetched(server, tmp_path, caplog):
    place = tmp_path / "benchmark/5core/rating_only" / f"{DOMAIN}.csv"
    place.parent.mkdir(parents=True)
    place.write_text(LOG)
    (tmp_path / f"meta_{DOMAIN}.jsonl").write_text(ITEMS)
    assert run(server, tmp_path) == [place, tmp_path / f"meta_{DOMAIN}.jsonl"]
    assert not server.asked
    assert not caplog.messages
    server.files[f"/raw/review_categories/{DOMAIN}.jsonl.gz"] = gzip.compress(b"{}\n")
    assert run(server, tmp_path, reviews=True)[0] == tmp_path / f"{DOMAIN}.jsonl.gz"
    assert caplog.messages == [f"{place}: is read in place of the reviews; move it elsewhere, so that they are read"]


def test_shards_whose_size_is_listed_are_not_looked_at(server, tmp_path):
    repo, folder = "datasets/McAuley-Lab/Amazon-Reviews-2023", f"raw_meta_{DOMAIN}"
    (tmp_path / f"{DOMAIN}.csv").write_text(LOG)
    entries = []
    for place in range(2):
        path, body = f"{folder}/full-0000{place}-of-00002.parquet", bytes(9)
        entries.append({"path": path, "size": len(body)})
        server.files[f"/{repo}/resolve/main/{path}"] = body
    server.files[f"/api/{repo}/tree/main/{folder}"] = json.dumps(entries).encode()
    first = tmp_path / entries[0]["path"]
    first.parent.mkdir()
    first.write_bytes(bytes(9))  # an earlier call ended here
    server.heads = False
    fetched = run(server, tmp_path, source="hub")
    assert [path.name for path in fetched[1:]] == [Path(entry["path"]).name for entry in entries]
    assert [path for _, path, _ in server.asked if "resolve" in path] == [f"/{repo}/resolve/main/{entries[1]['path']}"]
    assert not server.looked
