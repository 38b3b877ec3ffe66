import errno
from pathlib import Path

import pytest

from simswap_jax.io import job_cache


def test_rows_come_back_and_more_can_be_added(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert job_cache.read(path) == []
    job_cache.append(path, [{"step": 1}, {"step": 2, "name": "Zoë"}])
    job_cache.append(path, [{"step": 3}])
    assert job_cache.read(path) == [{"step": 1}, {"step": 2, "name": "Zoë"}, {"step": 3}]


def test_a_line_cut_short_by_a_kill_is_passed_over_and_then_dropped(tmp_path):
    path = tmp_path / "rows.jsonl"
    for torn in (b'{"ste', b'{"step": 2}', b'{"a": "' + b"x" * 200_000):
        path.write_bytes(b'{"step": 1}\n' + torn)
        assert job_cache.read(path) == [{"step": 1}]
        job_cache.append(path, [{"step": 3}])
        assert path.read_bytes() == b'{"step": 1}\n{"step": 3}\n'


def test_a_file_that_is_one_torn_line_becomes_empty(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"{" * 10)
    job_cache.append(path, [1])
    assert path.read_bytes() == b"1\n"


def test_nothing_after_a_damaged_line_counts(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"step": 1}\n\xff\xfe\n{"step": 3}\n')
    assert job_cache.read(path) == [{"step": 1}]
    assert job_cache.recover(path) == [{"step": 1}]
    assert path.read_bytes() == b'{"step": 1}\n'
    assert job_cache.recover(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_said_as_such():
    with pytest.raises(OSError, match="space") as caught:
        job_cache.append("/dev/full", [{"step": 1}])
    assert caught.value.errno == errno.ENOSPC
