"""The project's own files agree: metadata, changelog, citation, workflows, Makefile; extras that code names exist."""

import ast
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import simswap_jax
from simswap_jax import errors

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = set(PROJECT["optional-dependencies"])
WORKFLOWS = sorted((ROOT / ".github").rglob("*.yml"))
PYTHONS = ["3.11", "3.12", "3.13"]


def test_the_changelog_begins_with_this_version():
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == simswap_jax.__version__
    assert len(set(versions)) == len(versions)


def test_the_citation_can_be_read_and_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)  # what the format asks for
    assert (cited["version"], cited["license"]) == (simswap_jax.__version__, PROJECT["license"])
    assert cited["preferred-citation"]["title"] in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_what_github_reads_is_yaml(path):
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def steps(workflow):
    """(job, shell lines) of a workflow."""
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return {name: "\n".join(step.get("run", "") for step in job["steps"]) for name, job in jobs.items()}


def test_the_workflow_checks_tests_documents_and_builds():
    path = ROOT / ".github" / "workflows" / "ci.yml"
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    assert jobs["tests"]["strategy"]["matrix"]["python"] == PYTHONS
    run = steps(path)
    assert "make check" in run["check"]
    assert "make test " in run["tests"]
    assert "mkdocs build --strict" in run["docs"]
    assert "twine check" in run["wheel"]


def test_every_hook_is_a_tool_of_this_project():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    entries = [hook["entry"] for repository in hooks for hook in repository["hooks"]]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    checks = re.search(r"^check:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE).group(1)
    for tool in re.findall(r"\$\(BIN\)/(\S+)", checks):
        assert any(entry.startswith(f".venv/bin/{tool}") for entry in entries), tool


def test_pythons_are_the_same_everywhere():
    least = PROJECT["requires-python"].removeprefix(">=")
    classified = [line.split(" :: ")[-1] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d", line)]
    assert classified == PYTHONS
    assert least == PYTHONS[0]
    tried = re.search(r"for name in (.*?);", (ROOT / "Makefile").read_text(encoding="utf-8")).group(1).split()
    assert tried == [f"python{version}" for version in PYTHONS]


def extras_in_code():
    """Extras that the package names: in missing_extra, install_command and doctor's table."""
    for path in sorted((ROOT / "simswap_jax").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if not re.search(r"missing_extra|install_command|EXTRAS", text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", "") or getattr(node.func, "attr", "")
                at = {"missing_extra": 1, "install_command": 0}.get(name)
                if at is not None and isinstance(node.args[at], ast.Constant):
                    yield node.args[at].value
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and path.name == "doctor.py":
                names = [getattr(target, "id", "") for target in getattr(node, "targets", [])]
                if "EXTRAS" in names:
                    yield from (extra for extra, _ in ast.literal_eval(node.value).values())


def test_extras_that_are_named_exist():
    named = set(extras_in_code())
    assert {"onnx", "video", "app", "provenance", "heic", "wandb", "tensorboard"} <= named <= EXTRAS
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *WORKFLOWS, ROOT / "Makefile", ROOT / "launch/tpu_vm.sh"]
    for page in pages:
        for found in re.findall(r"(?:simswap-jax|['\"]\.)\[([a-z,-]+)\]", page.read_text(encoding="utf-8")):
            assert set(found.split(",")) <= EXTRAS, page.name


def test_no_sentence_spells_an_installation_itself():
    """``errors.install_command`` knows how this package was installed."""
    files = [path for path in (ROOT / "simswap_jax").rglob("*.py") if path.name != "errors.py"]
    assert [path.name for path in files if "pip install" in path.read_text(encoding="utf-8")] == []


def test_the_command_for_an_extra_fits_the_installation(tmp_path, monkeypatch):
    assert errors.install_command("video") == "pip install -e '.[video]'"
    monkeypatch.setattr(errors, "CHECKOUT", tmp_path / "site-packages" / "pyproject.toml")
    assert errors.install_command("video") == "pip install 'simswap-jax[video]'"
    assert "pip install 'simswap-jax[onnx]'." in str(errors.missing_extra("onnx", "onnx", "that"))


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not here")
@pytest.mark.parametrize(
    ("words", "path", "said"),
    [
        (["PYTHON=python3.0", "demo"], os.environ["PATH"], "make: no python3.0 is here;"),
        (["test"], "", "make: no Python 3.11, 3.12 or 3.13 is here;"),
    ],
)
def test_make_without_python_says_what_to_install_in_one_sentence(words, path, said, tmp_path):
    command = [shutil.which("make"), f"VENV={tmp_path / 'venv'}", *words]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    sentence, _ = done.stderr.splitlines()  # the second line is make's own
    assert sentence.startswith(said)
    assert sentence.endswith(f"make {words[-1]} PYTHON=/path/to/python")
    assert list(tmp_path.iterdir()) == []
