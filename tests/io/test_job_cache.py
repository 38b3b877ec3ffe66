import json

import numpy as np
import pytest

from simswap_jax.io.job_cache import LOCK, ChunkCache, open_job

JOB = {"models": ["a", "b"], "size": (64, 64)}


def unexpected():
    raise AssertionError("computed again")


def test_a_chunk_is_computed_once_and_taken_up_by_the_same_job(tmp_path):
    cache = ChunkCache(tmp_path / "job", JOB)
    assert not cache.resumed
    assert cache.get_or_compute("one", lambda: {"x": np.arange(3)})["x"].tolist() == [0, 1, 2]
    again = ChunkCache(tmp_path / "job", {"size": [64, 64], "models": ["a", "b"]})
    assert again.resumed
    assert again.get_or_compute("one", unexpected)["x"].tolist() == [0, 1, 2]
    again.clear()
    assert not (tmp_path / "job").exists()


def test_another_job_begins_anew(tmp_path):
    ChunkCache(tmp_path, JOB).get_or_compute("one", lambda: {"x": np.zeros(1)})
    (tmp_path / LOCK).touch()
    other = ChunkCache(tmp_path, {**JOB, "size": 128})
    assert not other.resumed
    assert other.get_or_compute("one", lambda: {"x": np.ones(1)})["x"].tolist() == [1.0]
    assert (tmp_path / LOCK).is_file()  # somebody holds it


@pytest.mark.parametrize("damage", [b"", b"PK\3\4 no archive", b"\x93NUMPY"])
def test_a_damaged_chunk_is_computed_again(tmp_path, damage):
    cache = ChunkCache(tmp_path, JOB)
    cache.get_or_compute("one", lambda: {"x": np.zeros(1)})
    (tmp_path / "one.npz").write_bytes(damage)
    assert cache.get_or_compute("one", lambda: {"x": np.ones(1)})["x"].tolist() == [1.0]


def test_a_kill_while_a_chunk_is_computed_leaves_the_others(tmp_path):
    cache = ChunkCache(tmp_path, JOB)
    cache.get_or_compute("one", lambda: {"x": np.zeros(1)})
    with pytest.raises(KeyboardInterrupt):
        cache.get_or_compute("two", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert ChunkCache(tmp_path, JOB).resumed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.json", "one.npz"]


def test_the_job_may_be_written_in_any_layout(tmp_path):
    (tmp_path / "about.json").write_text(json.dumps(JOB, indent=1, sort_keys=True) + "\n")
    assert open_job(tmp_path, JOB, "about.json")
    (tmp_path / "about.json").write_text("{")
    assert not open_job(tmp_path, JOB, "about.json")
