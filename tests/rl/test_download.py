"""Downloads from a real server on this machine: resumed, broken off, refused, wrong."""

import contextlib
import re
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from cfdg_rl.datasets.catalogue import PUBLISHED
from cfdg_rl.datasets.checksums import write_hdf5
from cfdg_rl.datasets.download import Patience, download

NAME = "hopper-medium-v2"
ROWS = 400
QUICK = Patience(tries=3, timeout=5.0, wait=0.001)
FILE = replace(PUBLISHED[NAME], rows=ROWS)


class Server:
    """Serves one file; ``break_at`` are the numbers of bytes after which the coming responses stop."""

    def __init__(self, content):
        self.content = content
        self.ranges = True
        self.break_at = []
        self.statuses = []
        self.asked = []

    def answer(self, request):
        wanted = request.headers.get("Range")
        self.asked.append((request.path, wanted))
        if self.statuses:
            return request.send_error(self.statuses.pop(0))
        begin = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.ranges else 0
        if begin >= len(self.content):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(self.content)}")
            request.send_header("Content-Length", "0")
            return request.end_headers()
        body = self.content[begin:]
        request.send_response(206 if begin else 200)
        request.send_header("Content-Length", str(len(body)))
        if begin:
            request.send_header("Content-Range", f"bytes {begin}-{len(self.content) - 1}/{len(self.content)}")
        request.end_headers()
        with contextlib.suppress(OSError):
            request.wfile.write(body[: self.break_at.pop(0)] if self.break_at else body)
        return None


@pytest.fixture(scope="session")
def content(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("published") / "hopper.hdf5"
    made = {
        "observations": rng.normal(size=(ROWS, 11)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(ROWS, 3)).astype(np.float32),
        "rewards": np.ones(ROWS, np.float32),
        "terminals": np.zeros(ROWS, bool),
        "timeouts": np.arange(ROWS) % 100 == 99,
    }
    write_hdf5(path, made, {})
    return path.read_bytes()


@pytest.fixture
def server(content, tmp_path, monkeypatch):
    state = Server(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.answer(self)

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "datasets"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("CFDG_D4RL_URL", f"http://127.0.0.1:{http.server_port}/mirror/")
        yield state
        http.shutdown()
        thread.join()


def part():
    return FILE.local.with_name(f"{FILE.local.name}.part")


def test_a_file_arrives_whole_and_is_not_fetched_twice(server, content):
    path = download(FILE, patience=QUICK)
    assert path == FILE.local
    assert path.read_bytes() == content
    assert server.asked == [("/mirror/gym_mujoco_v2/hopper_medium-v2.hdf5", None)]
    download(FILE, patience=QUICK)
    assert len(server.asked) == 1
    assert [each.name for each in path.parent.iterdir()] == ["hopper_medium-v2.hdf5"]


def test_a_broken_off_transfer_goes_on_where_it_stopped(server, content):
    server.break_at = [1000, 2500]
    assert download(FILE, patience=QUICK).read_bytes() == content
    assert [wanted for _, wanted in server.asked] == [None, "bytes=1000-", "bytes=3500-"]


def test_a_later_download_goes_on_with_the_part_that_is_there(server, content):
    part().parent.mkdir()
    part().write_bytes(content[:1234])
    assert download(FILE, patience=QUICK).read_bytes() == content
    assert server.asked[0][1] == "bytes=1234-"


def test_a_part_that_is_complete_is_only_checked(server, content):
    part().parent.mkdir()
    part().write_bytes(content)
    assert download(FILE, patience=QUICK).read_bytes() == content
    assert not part().exists()


def test_a_part_longer_than_the_file_is_started_over(server, content):
    part().parent.mkdir()
    part().write_bytes(content + b"more")
    assert download(FILE, patience=QUICK).read_bytes() == content


def test_a_server_that_ignores_ranges_sends_it_all_again(server, content):
    server.ranges = False
    server.break_at = [1000]
    assert download(FILE, patience=QUICK).read_bytes() == content
    assert [wanted for _, wanted in server.asked] == [None, "bytes=1000-"]


def test_passing_faults_of_the_server_are_waited_out(server, content):
    server.statuses = [503, 502]
    assert download(FILE, patience=QUICK).read_bytes() == content


def test_a_missing_file_is_one_sentence_at_once(server):
    server.statuses = [404] * 9
    with pytest.raises(ConnectionError, match=r"did not give hopper_medium-v2\.hdf5 \(HTTP 404 Not Found\)") as error:
        download(FILE, patience=QUICK)
    assert len(server.asked) == 1
    assert str(FILE.local.parent) in str(error.value)
    assert "\n" not in str(error.value)


def test_giving_up_keeps_what_has_arrived(server, content):
    server.break_at = [1000, 0, 0, 0, 0]
    with pytest.raises(ConnectionError, match=r"1,000 bytes are kept"):
        download(FILE, patience=QUICK)
    assert part().read_bytes() == content[:1000]
    assert not FILE.local.exists()


def test_what_is_not_the_dataset_is_deleted(server, content):
    server.content = b"<html>down for maintenance</html>"
    with pytest.raises(ValueError, match=r"is not hopper-medium-v2 and was deleted: is not a complete HDF5 file"):
        download(FILE, patience=QUICK)
    server.content = content
    with pytest.raises(ValueError, match=r"was deleted: has 400 rows, expected 999,906"):
        download(PUBLISHED[NAME], patience=QUICK)
    assert list(FILE.local.parent.iterdir()) == []


def test_a_resumed_file_whose_beginning_is_of_another_is_refused(server, content):
    part().parent.mkdir()
    part().write_bytes(bytes(3000))
    with pytest.raises(ValueError, match="was deleted"):
        download(FILE, patience=QUICK)
    assert download(FILE, patience=QUICK).read_bytes() == content


def test_a_host_that_is_down_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9 did not give hopper_medium-v2\.hdf5 .*refused"):
        download(FILE, base="http://127.0.0.1:9", patience=QUICK)
    assert list(tmp_path.iterdir()) == []


def test_only_web_addresses(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="is not an address of a web server"):
        download(FILE, base="file:///etc")
