import errno
import subprocess
import sys

import filelock

from simswap_jax.io.job_cache import LOCK, exclusive_lock
from tests.support.errors import raises_user_error


def test_only_one_at_a_time_and_again_afterwards(tmp_path):
    place = tmp_path / "new"
    for _ in range(2):
        with exclusive_lock(place, "preparing it"):
            assert (place / LOCK).is_file()
            with raises_user_error("locked", "preparing it"), exclusive_lock(place, "preparing it"):
                pass


def test_another_process_is_kept_out_until_the_holder_ends(tmp_path):
    program = (
        "import sys, pathlib\n"
        "from simswap_jax.io.job_cache import exclusive_lock\n"
        "with exclusive_lock(pathlib.Path(sys.argv[1]), 'it'):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with raises_user_error("locked"), exclusive_lock(tmp_path, "it"):
        pass
    holder.kill()
    holder.communicate()
    with exclusive_lock(tmp_path, "it"):
        pass


def test_a_disk_without_locks_is_one_sentence(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    with raises_user_error("cannot-lock", tmp_path, "No locks available"), exclusive_lock(tmp_path, "it"):
        pass


def test_a_place_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with raises_user_error("cannot-write", tmp_path / "file" / "a"), exclusive_lock(tmp_path / "file" / "a", "it"):
        pass


def test_importing_it_needs_no_posix():
    program = "import sys; sys.modules['fcntl'] = None; import simswap_jax.io.job_cache, simswap_jax.io.atomic"
    subprocess.run([sys.executable, "-c", program], check=True)
