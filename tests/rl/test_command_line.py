"""Wrong words of ``cfdg-datasets``: status 2 and one sentence that names the word, before anything is done."""

import pytest

from cfdg_rl.datasets.cli import main

LINES = {
    "": "list,show",
    "wash": "wash",
    "show": "NAME",
    "list x": "x",
    "list --cache": "--cache",
    "record x --rows y": "--rows",
    "record hopper-medium --rows 0": "rows",
    "record hopper-medium --rows 99999999999999": "rows is 99999999999999",
    "record all --rows 99999999999999": "rows",
    "record hopper-medium --jobs 0": "jobs",
    "record x --seed y": "--seed",
    "record pointmaze-umaze --seed -1": "seed is -1",
    "record hopper-medium --cache /proc/x": "/proc/x",
    "download hopper-medium-v2 --tries 0": "tries is 0",
    "download hopper-medium-v2 --timeout nan": "timeout is nan",
    "download hopper-medium-v2 --timeout -1": "timeout is -1",
    "show hdf5:.@Hopper-v5": "is a folder",
}


@pytest.mark.parametrize("line", LINES)
def test_a_wrong_word_is_one_sentence(line, check_wrong_word):
    assert LINES[line] in check_wrong_word(main, line)
