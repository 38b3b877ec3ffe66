"""Other systems as far as they can be played here: no fcntl, few letters, no home."""

import ast
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from simswap_jax.cli.main import VERBS
from tests.support.small_model import faces, write_small_model

ROOT = Path(__file__).parents[2]
POSIX_ONLY = {"fcntl", "grp", "posix", "pwd", "resource", "termios", "tty"}  # modules that Windows lacks
# What Windows lacks, or does otherwise: there `os.kill` ends a process, whatever the signal.
POSIX_CALLS = {
    "fork",
    "getuid",
    "geteuid",
    "mkfifo",
    "sched_getaffinity",
    "SIGKILL",
    "SIGHUP",
    "SIGALRM",
    "kill",
    "rename",
}
# Each for its reason: asked first (hasattr, sys.platform), or only where several processes train, which Windows cannot.
EXCUSED = {
    ("io/user_folders.py", "getuid"),
    ("data/records.py", "kill"),
    ("weights/onnx_trial.py", "resource"),  # where it is there
    ("training/signals.py", "kill"),
    ("provenance/certificates.py", "rename"),  # a folder onto none; another's is taken
}
WITHOUT_POSIX = """
import sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
import warnings
warnings.simplefilter("ignore")  # filelock's, that files stand in for locks
from simswap_jax.cli.main import main
from simswap_jax.io.job_cache import exclusive_lock
from pathlib import Path
with exclusive_lock(Path("locked"), "trying it"):
    print("locked")
sys.exit(main(sys.argv[1:]))
"""


def run(program, *words, **environment):
    """(status, standard output, standard error), as bytes."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
    settings |= {"PYTHONPATH": str(ROOT), **environment}
    folder = settings.pop("FOLDER", None)
    command = [sys.executable, "-c", program, *map(str, words)]
    done = subprocess.run(command, env=settings, cwd=folder, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_swap_as_on_windows_without_a_home(tmp_path):
    """No fcntl, a console of cp1252, names that it cannot show, and a home that cannot be written: the result is there
    and the command says so. Each of these ended in a traceback.
    """
    model = write_small_model(tmp_path / "m")
    for name, face in zip(("成龍.png", "Zoë →.png"), faces(2, 128)):
        Image.fromarray(face).save(tmp_path / name)
    (tmp_path / "nobody").write_text("a file where a home should be")
    words = [
        "swap",
        "--aligned",
        "--model",
        model,
        "--source",
        "成龍.png",
        "--target",
        "Zoë →.png",
        "--output",
        "出.png",
    ]
    home = dict.fromkeys(("HOME", "USERPROFILE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), str(tmp_path / "nobody"))
    letters = {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0", "SIMSWAP_JAX_CONFIG": ""}
    status, output, error = run(WITHOUT_POSIX, *words, FOLDER=str(tmp_path), **home, **letters)
    assert status == 0, error.decode("cp1252")
    assert b"Traceback" not in error
    assert (tmp_path / "出.png").is_file()
    said = output.decode("cp1252")
    assert "locked" in said
    assert "Swapped 1 face into ?.png." in said


def test_every_help_is_shown_in_few_letters():
    program = (
        "from contextlib import suppress\n"
        "from simswap_jax.cli.main import VERBS, main\n"
        "for verb in VERBS:\n"
        "    with suppress(SystemExit): main([verb, '--help'])\n"
    )
    status, output, error = run(program, PYTHONIOENCODING="cp1252", PYTHONUTF8="0")
    assert (status, error) == (0, b"")
    said = output.decode("cp1252")
    assert [verb for verb in VERBS if f"usage: simswap-jax {verb}" not in said] == []


def test_files_and_pipes_get_utf_8():
    """A Windows program writes its system's 200 letters into a pipe; names must stay readable in logs."""
    program = (
        "from types import SimpleNamespace\n"
        "from simswap_jax.cli import main as cli\n"
        "cli.VERBS['work'] = ('somewhere:main', '')\n"
        "cli.import_module = lambda name: SimpleNamespace(main=lambda words: print('\\u6210\\u9f8d \\u2192 \\udcff'))\n"
        "raise SystemExit(cli.main(['work']))\n"
    )
    plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": ""}
    assert run(program, **plain) == (0, "成龍 → ?\n".encode(), b"")


def test_a_path_of_the_home_where_there_is_none_is_one_sentence(tmp_path):
    program = (
        "import sys, pathlib\n"
        "def no_home(path): raise RuntimeError('Could not determine home directory.')\n"
        "pathlib.Path.expanduser = no_home\n"
        "from simswap_jax.cli.main import main\n"
        "sys.exit(main(['prepare', '--photos', '~/x', '--output', '~/y']))\n"
    )
    status, _, error = run(program)
    assert status == 2
    assert error.decode().splitlines() == [
        "simswap-jax: a path begins with ~, but this user has no home folder; write it out."
    ]


def test_nothing_that_windows_lacks_is_used():
    found = set()
    for path in sorted((ROOT / "simswap_jax").rglob("*.py")):
        file = path.relative_to(ROOT / "simswap_jax").as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {(file, alias.name) for alias in node.names if alias.name in POSIX_ONLY}
            elif isinstance(node, ast.ImportFrom) and node.module in POSIX_ONLY:
                found.add((file, node.module))
            elif isinstance(node, ast.Attribute) and node.attr in POSIX_CALLS and is_of(node, ("os", "signal")):
                found.add((file, node.attr))
    assert found == EXCUSED


def test_text_files_are_read_and_written_as_utf_8():
    """Elsewhere the system's letters are the default."""
    found = []
    for path in sorted((ROOT / "simswap_jax").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                given = len(node.args) + len(node.keywords)
                least = {"read_text": 1, "write_text": 2}.get(node.func.attr, 0)
                if given < least:
                    found.append(f"{path.name}:{node.lineno}")
    assert found == []


def is_of(node, modules):
    return isinstance(node.value, ast.Name) and node.value.id in modules
