"""What the pages say exists: commands parse, links and files are there, the tree in docs/design.md is the tree."""

import argparse
import ast
import importlib
import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

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
NOTEBOOKS = sorted(ROOT.glob("examples/*.ipynb"))
PLACEHOLDERS = {"EXPERIMENT": "simswap_224"}
PROGRAMS = {"simswap-jax", "make", "python", "pip", "mkdocs", "export"}  # that shell blocks start
MACHINE_PATH = re.compile(r"(?<![\w.:/-])/(?:home|root|Users|work|tmp|mnt)/")


def named(path):
    return str(path.relative_to(ROOT))


def understood(words):
    """A command line with real values for what pages write in their place."""
    return [PLACEHOLDERS.get(word, word) for word in words]


def shell_lines(page):
    """The lines of a page's shell blocks: fenced, without a language, and beginning with a program that is known."""
    for block in re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M):
        lines = [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]
        first = re.sub(r"^([A-Z_]+=\S* )*", "", lines[0]).split()[0]
        if first in PROGRAMS or first.startswith("launch/"):
            yield from lines


def shell_words(page):
    """The words of each shell line, without leading ``NAME=value``; none of what is a comment or left open (…)."""
    for line in shell_lines(page):
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        if words and words[0] != "…":
            yield words


def notebook_commands(program):
    """(notebook, line) of every line of a code cell that hands a command to the shell; {NAME} is a number there."""
    for book in NOTEBOOKS:
        for cell in json.loads(book.read_text(encoding="utf-8"))["cells"]:
            for line in "".join(cell["source"]).splitlines() if cell["cell_type"] == "code" else ():
                if line.strip().startswith(f"!{program} "):
                    yield named(book), re.sub(r"\{\w+\}", "7", line.strip()[1:])


def command_lines(program):
    """(page, words) of every line that calls the program, in pages, the experiments' docstrings and notebooks."""
    lines = list(notebook_commands(program))
    for page in [*PAGES, *EXPERIMENTS]:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        lines += [(named(page), line.strip().removeprefix("Command:").strip()) for line in text.splitlines()]
    return [
        (page, understood(shlex.split(line, comments=True)))
        for page, line in lines
        if line.startswith(f"{program} ") and "…" not in line
    ]


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


def experiment_calls():
    """The words of every command that names an experiment."""
    calls = [pytest.param(words, id=f"{page}-{number}") for number, (page, words) in enumerate(all_commands())]
    return [call for call in calls if "--config" in call.values[0]]


def all_commands():
    return [*command_lines("simswap-jax"), *launch_lines()]


def launch_lines():
    """(page, words) of every shell line that starts a script of launch/."""
    started = [(named(page), words) for page in PAGES for words in shell_words(page)]
    return [(page, understood(words)) for page, words in started if words[0].startswith("launch/")]


# The same for those that only hand the experiment on: preflight, sweep, the scripts of launch/.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize("words", experiment_calls())
def test_every_experiment_and_field_that_is_named_exists(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert words[0] == "simswap-jax" or (ROOT / words[0]).is_file()
    if "…" in words[words.index("--config") + 1]:
        return
    at = words.index("--config")
    fields = [word for word in words if word.startswith("--config.")]
    config, _ = command.parse([*words[at : at + 2], "--workdir", "runs/x", *fields])
    assert config.steps > 0


def test_shell_blocks_start_what_the_tests_know():
    """A program that no test here parses would go unseen."""
    started = [(named(page), words[0]) for page in PAGES for words in shell_words(page)]
    assert len(started) > 80
    assert [one for one in started if one[1] not in PROGRAMS and not one[1].startswith("launch/")] == []


def test_scripts_extras_and_one_liners_in_shell_blocks_exist():
    extras = set(project_extras())
    for page in PAGES:
        for words in shell_words(page):
            if words[:2] == ["pip", "install"]:
                for asked in re.findall(r"\.\[([\w,-]+)\]", " ".join(words)):
                    assert set(asked.split(",")) <= extras, f"{named(page)}: {words}"
            elif words[:2] == ["python", "-c"]:
                ast.parse(words[2])
            elif words[0] == "python" and words[1] != "-m":
                assert (ROOT / words[1]).is_file(), f"{named(page)}: {words}"


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


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


def navigation(entry):
    """Paths of the pages below an entry of the site's navigation."""
    if isinstance(entry, str):
        return [entry]
    return [path for inner in (entry.values() if isinstance(entry, dict) else entry) for path in navigation(inner)]


def test_the_site_has_every_page_once():
    pages = navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(pages) == sorted(path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md"))


def test_every_name_of_the_api_page_is_there():
    """Each ``::: package.module.name``, by what the modules define."""
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    names = re.findall(r"^::: (\S+)$", page, re.M)
    assert len(names) > 20
    for name in names:
        module, _, attribute = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), attribute), name


@pytest.mark.parametrize(
    ("link", "local", "remote"),
    [
        ("[weights](../../configs/weights.yaml)", "`configs/weights.yaml`", "[weights](R/configs/weights.yaml)"),
        ("[here](../../configs/weights.yaml)", "here (`configs/weights.yaml`)", "[here](R/configs/weights.yaml)"),
        ("[README](../../README.md#train)", "`README.md`", "[README](R/README.md#train)"),
        ("[v](video.md)", "[v](video.md)", "[v](video.md)"),
        ("[d](../design.md#a)", "[d](../design.md#a)", "[d](../design.md#a)"),
    ],
)
def test_links_out_of_the_site_become_names(link, local, remote):
    hook = module_at(ROOT / ".ci" / "mkdocs_links.py")
    page = type("Page", (), {"file": type("File", (), {"src_uri": "guide/train.md"})})
    for address, expected in ((None, local), ("https://example.org/us/simswap_jax/", remote)):
        config = type("Config", (), {"repo_url": address})
        expected = expected.replace("R/", "https://example.org/us/simswap_jax/blob/main/")
        assert hook.on_page_markdown(link, page=page, config=config, files=None) == expected


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra 'docs' is not installed")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert built.returncode == 0, built.stderr[-4000:]
    api = (site / "reference" / "api.html").read_text(encoding="utf-8")
    for word in ("from_pretrained", "swap_aligned", "gradient_penalty", "LossInputs"):
        assert f"{word}" in api
    assert "configs/weights.yaml" in (site / "guide" / "train.html").read_text(encoding="utf-8")
    fetched = re.findall(r'(?:src|href)="(https?://[^"]+)"', (site / "index.html").read_text(encoding="utf-8"))
    assert [address for address in fetched if "mkdocs-material" not in address] == []  # the theme's own line


def project_extras():
    """The extras of pyproject.toml, each with what it installs."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def test_extras_are_those_of_the_project():
    given = project_extras()
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
    names = [span for span in spans if re.fullmatch(r"[\w./]+\.(py|yaml|toml)", span) and span not in PLACEHOLDERS]
    names += [word for span in spans for word in re.findall(r"(?<!\S)tests/[\w/]+\.py", span)]
    for name in names:
        assert any(path == name or path.endswith(f"/{name}") for path in here), f"{named(page)} names {name}"
    for name in (span for span in spans if re.fullmatch(r"simswap_jax(\.\w+)+", span)):
        path = ROOT.joinpath(*name.split("."))
        assert path.is_dir() or path.with_suffix(".py").is_file(), f"{named(page)} names {name}"


def module_at(path):
    """A file outside the package as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def design_tree():
    return module_at(ROOT / ".ci" / "design_tree.py")


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


def test_the_readme_says_of_the_model_that_ships_what_its_card_says():
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    card = (PACKAGE / "pretrained/faces/README.md").read_text(encoding="utf-8")
    retrieval, pose = (
        float(re.search(rf"^\| {re.escape(row)} \| ([\d.]+)", card, re.MULTILINE).group(1))
        for row in ("ID retrieval (top-1 of 227)", "pose error, result against target")
    )
    people = sum(int(count.replace(",", "")) for count in re.findall(r"([\d,]+) people(?: of LFW,|;)", card)[:2])
    assert (
        f"on {people:,} people. ID retrieval {100 * retrieval:.0f} % (top-1 of 227), pose error {pose:.1f}°" in readme
    )


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


def tracked(*options):
    """Paths of the files that git keeps, or would add; ``"--cached"``: that it keeps."""
    ask = ["git", "ls-files", *(options or ("--cached", "--others", "--exclude-standard"))]
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
    for name in tracked("--cached"):  # others may be whatever its user made here
        path = ROOT / name
        if not path.is_file() or path.suffix in {".npz", ".safetensors", ".png", ".jpg"}:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if MACHINE_PATH.search(line):
                found.append(f"{name}:{number}: {line.strip()}")
    assert found == []
