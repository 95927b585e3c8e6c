"""Files that appear whole: under which permissions, what is left when something goes wrong."""

import os
import stat

import pandas as pd
import pytest
import torch

from cfdg_diffusion import storage
from cfdg_diffusion.cli.table_files import write_text, written
from cfdg_diffusion.quality import report
from cfdg_diffusion.storage import complete

pytestmark = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def table_to(path):
    with written(path) as write:
        write(pd.DataFrame({"a": [1, 2]}))


WRITERS = {
    "model": lambda path: storage.save(path, {}, {"weight": torch.zeros(3)}),
    "table": table_to,
    "text": lambda path: write_text(path, "{}"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_new_file_may_be_read_by_whom_the_umask_allows(tmp_path, umask, writer):
    WRITERS[writer](tmp_path / "new.csv")
    assert mode(tmp_path / "new.csv") == 0o666 & ~umask
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]


@pytest.mark.parametrize("own", [0o600, 0o640, 0o664, 0o444])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, writer, own):
    path = tmp_path / "old.csv"
    path.write_text("old")
    path.chmod(own)
    WRITERS[writer](path)
    assert path.read_bytes() != b"old"
    assert mode(path) == own


def test_the_page_of_a_report_has_them_too(tmp_path):
    pytest.importorskip("sklearn")
    (tmp_path / "plain").write_text("as open() makes it")
    table = pd.DataFrame({"a": range(12), "b": list("ab" * 6)})
    found = report(table, table)
    found.to_html(tmp_path / "report.html")
    assert mode(tmp_path / "report.html") == mode(tmp_path / "plain")
    (tmp_path / "report.html").chmod(0o640)
    found.to_html(tmp_path / "report.html")
    assert mode(tmp_path / "report.html") == 0o640


def test_what_replaces_a_private_file_is_private_while_it_is_written(tmp_path):
    path = tmp_path / "secret.csv"
    path.write_text("old")
    path.chmod(0o600)
    with complete(path) as partial:
        assert mode(partial) == 0o600
        partial.write_text("new")
    assert path.read_text() == "new"


def test_what_a_killed_process_left_has_no_say(tmp_path):
    path = tmp_path / "new.csv"
    left = path.with_name(f".{path.name}.{os.getpid()}.partial")
    left.write_text("left")
    left.chmod(0o400)
    with complete(path) as partial:
        assert partial.read_text() == ""
    (tmp_path / "plain").write_text("as open() makes it")
    assert mode(path) == mode(tmp_path / "plain")


def test_an_exception_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "old.csv"
    path.write_text("old")

    def interrupted():
        with complete(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["old.csv"]
