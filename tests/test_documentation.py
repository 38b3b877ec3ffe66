"""What the pages say exists: commands parse, links and files are there, the tree in docs/design.md is the tree."""

import argparse
import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from simswap_jax.cli import main as cli
from simswap_jax.cli import train as command
from simswap_jax.training import experiment
from simswap_jax.training.config import default_config
from tests import conftest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "simswap_jax"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(PACKAGE.glob("**/pretrained/**/*.md")),
]
EXPERIMENTS = sorted(PACKAGE.glob("experiments/[a-z]*.py"))
PLACEHOLDERS = {"EXPERIMENT": "simswap_224"}
MACHINE_PATH = re.compile(r"(?<![\w.:/-])/(?:home|root|Users|work|tmp|mnt)/")


def named(path):
    return str(path.relative_to(ROOT))


def command_lines(program):
    """(page, words) of every line that calls the program, in fenced blocks and in the experiments' docstrings."""
    found = []
    for page in [*PAGES, *EXPERIMENTS]:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in text.splitlines():
            call = line.strip().removeprefix("Command:").strip()
            if call.startswith(f"{program} ") and "…" not in call:
                words = shlex.split(call, comments=True)
                found.append((named(page), [PLACEHOLDERS.get(word, word) for word in words]))
    return found


def cases(program):
    return [pytest.param(words, id=f"{page}-{number}") for number, (page, words) in enumerate(command_lines(program))]


class Parsed(Exception):
    """The arguments were understood; what they ask for is not done."""


@pytest.fixture
def only_parse(monkeypatch):
    parse = argparse.ArgumentParser.parse_args

    def stop(self, *arguments, **options):
        parse(self, *arguments, **options)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)


# ml_collections loads experiment files in a way that Python 3.12 drops; the warning is about its code.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize("words", cases("simswap-jax"))
def test_every_command_parses(words, only_parse, monkeypatch):
    monkeypatch.chdir(ROOT)
    verb, rest = words[1], words[2:]
    if verb == "train":
        config, _ = command.parse(rest)
        assert config.steps > 0  # the experiment file is read when it is first looked at
        return
    assert verb in cli.VERBS
    with pytest.raises(Parsed):
        cli.main([verb, *rest])


@pytest.mark.parametrize("words", cases("python -m"))
def test_every_module_that_is_run_parses(words, only_parse):
    with pytest.raises(Parsed):
        importlib.import_module(words[2]).main(words[3:])


def test_a_wrong_command_would_be_seen(only_parse, capsys):
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--nonsense"])
    assert "--nonsense" in capsys.readouterr().err


@pytest.mark.parametrize("words", cases("make"))
def test_every_make_target_exists(words):
    assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_heavy_tests_are_where_the_list_says():
    """A renamed file would else be `fast` without anybody noticing."""
    assert [path for path in conftest.HEAVY if not (ROOT / path.partition("::")[0]).exists()] == []


def test_readme_shows_every_verb_and_the_two_commands():
    shown = {words[1] for page, words in command_lines("simswap-jax") if page == "README.md"}
    assert shown >= set(cli.VERBS) - {"demo", "completion", "push"}
    assert [words for page, words in command_lines("make") if page == "README.md"] == [
        ["make", "demo"],
        ["make", "test"],
    ]


def test_extras_are_those_of_the_project():
    given = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    page = (ROOT / "docs" / "guide" / "install.md").read_text(encoding="utf-8")
    table = page.split("| extra | for |")[1].split("\n\n")[0]
    assert set(re.findall(r"`([a-z-]+)`(?=[^|]*\| )", table)) == set(given)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        file, _, heading = target.partition("#")
        there = page.parent / file if file else page
        assert there.exists(), f"{named(page)} links to {target}"
        if heading:
            assert heading in headings(there.read_text(encoding="utf-8")), f"{named(page)} links to {target}"


def headings(text):
    """Anchors of a page's headings, as they are linked to."""
    return [
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)", text, re.M)
    ]


def test_every_page_is_linked_from_its_index():
    """Whoever starts at docs/index.md reaches every page."""
    reached, ahead = set(), [ROOT / "docs" / "index.md"]
    while ahead:
        page = ahead.pop().resolve()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        targets = re.findall(r"\]\(([^)\s#]+)[^)\s]*\)", page.read_text(encoding="utf-8"))
        ahead += [page.parent / target for target in targets if not target.startswith("http")]
    assert [named(page) for page in ROOT.glob("docs/**/*.md") if page.resolve() not in reached] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_named_files_and_modules_exist(page):
    here = [path for path in tracked() if "tests/golden" not in path]
    spans = re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
    for name in (span for span in spans if re.fullmatch(r"[\w./]+\.(py|yaml|toml)", span) and span not in PLACEHOLDERS):
        assert any(path == name or path.endswith(f"/{name}") for path in here), f"{named(page)} names {name}"
    for name in (span for span in spans if re.fullmatch(r"simswap_jax(\.\w+)+", span)):
        path = ROOT.joinpath(*name.split("."))
        assert path.is_dir() or path.with_suffix(".py").is_file(), f"{named(page)} names {name}"


def design_tree():
    """.ci/design_tree.py as a module."""
    spec = importlib.util.spec_from_file_location("design_tree", ROOT / ".ci" / "design_tree.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tree_in_the_design_is_the_tree():
    """Line by line what the files say; `python .ci/design_tree.py --write` puts it there."""
    made = design_tree()
    assert made.in_page().splitlines() == made.tree().splitlines()


def test_every_module_says_what_it_is():
    """In one line of the tree, which is the first sentence of its docstring."""
    made = design_tree()
    silent = [line for line in made.tree().splitlines() if len(line.split()) < 3]
    assert silent == []
    modules = {path.name for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    assert {line.split()[0] for line in made.tree().splitlines() if line.split()[0].endswith(".py")} == modules


def test_every_field_of_an_experiment_is_explained():
    page = (ROOT / "docs" / "reference" / "config.md").read_text(encoding="utf-8")
    fields = experiment.flat(default_config().to_dict())
    missing = [name for name in fields if f"`{name}`" not in page and f"`.{name.split('.')[-1]}`" not in page]
    assert missing == []
    free = page.split("These fields may change")[1].split("Any other difference")[0]
    assert set(re.findall(r"`([\w.]+)`", free)) == experiment.FREE


def test_the_python_example_names_what_is_there():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    imports = [
        node
        for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.ImportFrom)
    ]
    assert imports
    for node in imports:
        module = importlib.import_module(node.module)
        assert all(hasattr(module, alias.name) for alias in node.names)


def tracked():
    """Paths of the files that git keeps, or would add."""
    ask = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return listed.stdout.splitlines()


def test_pages_that_code_names_exist():
    found = []
    for name in tracked():
        path = ROOT / name
        if path.is_file() and path.suffix in {".py", ".md", ".yaml", ".sh", ".toml", ".bash"}:
            pages = re.findall(r"(?<![\w./])docs/[\w/]+\.md", path.read_text(encoding="utf-8"))
            found += [f"{name}: {page}" for page in pages if not (ROOT / page).exists()]
    assert found == []


def test_no_path_of_a_machine_is_named():
    found = []
    for name in tracked():
        path = ROOT / name
        if not path.is_file() or path.suffix in {".npz", ".safetensors", ".png", ".jpg"}:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if MACHINE_PATH.search(line):
                found.append(f"{name}:{number}: {line.strip()}")
    assert found == []
