"""Retired words stay out: a name must be found by searching for the textbook term (CONTRIBUTING.md, glossary).

Lists with the field's term beside each: files, definitions (a function, class, method or field of that name),
identifiers (retired wherever they stand, in code and pages), phrases of prose and messages, and phrases of pages.
Tables through which old files are read (assignments to RENAMED…, FORMER… and REMOVED…), and a page's section
"Former names", may hold retired names.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "simswap_jax"
OLD_NAMES = re.compile(r"_?(RENAMED|FORMER|REMOVED)")
OLD_NAMES_SECTION = re.compile(r"^## Former names\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)

FILES = {
    "alone": "lock",
    "beginning": "warm_start",
    "draws": "update",
    "guard": "update",
    "values": "normalization",
    "known_centres": "class_prototypes",
    "hardening": "robust_identity",
    "corruption": "augmentation",
    "sight": "runner",
    "trial": "runner",
    "work": "job_cache",
    "rows": "baselines, external",
    "films": "decode",
    "film_command": "swap_video",
    "film_look": "detect",
    "film_marks": "provenance",
    "film_parts": "workdir",
    "film_people": "assign",
    "film_writer": "encode",
    "verdicts": "filters",
    "places": "layout",
    "journal": "manifest",
    "invisible_mark": "watermark",
    "convention_check": "range_check",
    "safe_pickle": "pickle_reader",
    "processes": "distributed",
    "interop": "weights",
    "swapping": "inference",
}

# Name, or Class.name, of what is defined.
DEFINITIONS = {
    "alone": "exclusive_lock",
    "begun": "init_from",
    "drawn": "per_sample_random",
    "Watch": "NonFiniteMonitor",
    "look": "predict, detect",
    "Scene": "EvalInputs",
    "Album": "Gallery",
    "Work.piece": "ChunkCache.get_or_compute",
    "share": "projection_ratio, resolve_overlaps",
    "stain": "perturb_colours",
    "coat": "colour_perturbation",
    "Seen": "PhotoRecord",
    "seal": "write_manifest",
    "flaw": "verify_manifest",
    "room": "require_disk_space",
    "claim": "check_workdir_config",
    "first": "broadcast_from_primary",
    "in_turn": "primary_first",
    "several": "is_multiprocess",
    "leave": "hard_exit",
    "Meeting": "DistributedConfig",
    "meeting": "DistributedConfig",
    "in_small": "tiny_config",
    "Runner.here": "gather",
    "Runner.place": "shard_batch",
    "Runner.fetch": "nothing: removed",
    "PmapRunner.here": "gather",
    "PmapRunner.place": "shard_batch",
    "PmapRunner.fetch": "nothing: removed",
    "on_all": "replicate",
    "told_plainly": "an exception's own sentence",
    "GeneratorConfig.patch": "unshuffle",
    "CompactConfig.patch": "unshuffle",
    "Judges.look": "Evaluators.predict",
}

IDENTIFIERS = {
    "finite_or_unmoved": "skip_nonfinite_update",
    "judge_everybody": "embed_gallery",
    "Sight": "Predictions",
    "GivenRow": "ExternalResults",
    "ControlRow": "Baseline",
    "witness": "genuine pair",
    "few_steps": "small_model_recipe",
    "of_networks": "from_networks",
    "gated": "composition_mask",
    "gate_cell": "mask_stride",
    "edge_kernel": "stem_kernel",
    "style_gain": "adain_init_scale",
    "corrupted": "augmented, generator_input",
    "rounded_product": "nothing: removed",
    "swap_film": "swap_video",
    "FilmMarks": "MarkOptions",
}

# Regular expressions of whole phrases, in any case, over line breaks; in code, comments, messages and pages.
PHRASES = {
    r"value conventions?": "input normalization",
    r"true answers?": "ground truth",
    r"films?": "video",
    r"hardened|hardening": "adversarially robust, robust fine-tuning",
    r"strangers?": "another person, independent process",
    r"leavings": "what it wrote",
    r"come to nothing|comes to nothing": "vanish",
    r"nobody need be nearer": "a swap need not be closer to the source than other images of the same person",
    r"colours that nobody has": "implausible colours",
    r"at rest": "stored",
    r"begun": "started, resumed",
    r"gone on with|going on with|going on from|(goes|go|going) on (where|at the next)": "resume",
    r"re-draws?|re-drawn|re-drawing": "swap, transfer the identity of",
    r"took no part in training": "independent",
    r"floors? and ceilings?|floors?, ceilings?": "baselines and upper bounds",
    r"right person found|found, top-1": "ID retrieval",
    r"whose faces? came out": "whose identity the results carry",
    r"whose number": "origin",
    r"what of the source comes through": "leakage of source attributes",
    r"(skin|brows|the part) (is|are) the source's": "attribute transferred from the source",
    r"tears? (large ones|faces)": "splits faces into several boxes",
    r"how near the nearest face came": "the best similarity",
    r"aligned as the model was trained": "aligned with the model's training template",
    r"goes half way": "interpolates halfway",
    r"(for )?hardware that is not here: does it fit": "estimate memory and speed before you rent",
    r"a workdir belongs to one experiment": "a workdir is tied to one config",
    r"without a changed bit": "bit-exact round trip",
    r"nothing is run in them|without running anything in them": "parsed without executing pickled code",
    r"faces are followed": "faces are tracked",
    r"source pasted in": "copy-paste baseline",
    r"another photo of the source": "real photo of the source (upper bound)",
    r"\d+ numbers": "dimensions",
    r"numbers of a vector": "dimensions",
    r"there is no verb": "there is no command",
    r"people who agreed": "people who consented",
    r"laplacian energy inside the face": "sharpness (Laplacian energy)",
    r"what is not here yet": "Limitations",
    r"so many strangers": "independent processes",
    r"known centres|class centres that are known": "fixed class prototypes",
    r"mark in the pixels|pixel mark": "watermark",
    r"held-out people": "held-out identities",
    r"(take|takes|took|taken) no part in (the )?training": "independent",
    r"(people|persons?) who agreed|say that the result is synthetic": "consented; disclose",
    r"stop at any batch|a stopped run": "interrupt at any step; interrupted",
    r"without a visible square": "blend back seamlessly",
    r"(swap|swaps|swapping) places|nobody flickers": "stable, flicker-free",
    r"wrong names? found": "mislabeled images",
    r"unless you drop": "each can be disabled",
    r"is recognised in \d+ of|takes \d+ ?% for the source": "ID retrieval",
    r"dark brow": "dark eyebrows",
    r"shine through": "show through",
    r"first of eight stages": "stage 1 of 8",
    r"with other fields the command is refused": "if a field differs on resume, training stops and names it",
    r"on a pod, ask first": "before renting a pod, run preflight",
    r"asks another network": "measures with an independent recognition network",
    r"compil(e|es|ing) the (real )?step for hardware": "estimate memory and speed",
    r"moved by \d+ px": "noise floor: target shifted",
    r"0 nothing, 1 as in": "0 = none, 1 = as in the source image",
    r"a person who is not there": "if nobody matches, the command fails",
    r"of the side off": "landmark error",
    r"(each|the|every|a|run the) verb('s)?": "command",
}

# Phrases that code may need, and pages do not.
PAGE_PHRASES = {
    r"recognisers?": "face-recognition network",
    r"config\.start": "config.init_from",
    r"identity\.hardened": "identity.robust",
    r"corruption\.(colour|swap)": "augmentation_options",
    r"moving averages?(?! \(EMA\))": "EMA",
    r"(goes|go|going|went|gone) on(?! to)": "resume, continue",
    r"the judges?": "evaluator",
}

# What the first page says in the field's words only.
README_PHRASES = {
    r"pictures?": "photo, image",
    r"lies|stands?": "is",
    r"judges?": "evaluator, recognition network",
    r"verbs?": "command",
    r"numbers": "metrics, dimensions",
}

# (file, retired word): where an old file is read and no table holds the name. Say why.
ALLOWED: set[tuple[str, str]] = {
    ("docs/reference/config.md", r"moving averages?(?! \(EMA\))"),  # explains the abbreviation
    ("CONTRIBUTING.md", r"moving averages?(?! \(EMA\))"),  # the same
    ("docs/guide/extend.md", r"recognisers?"),  # the name of a field of EvaluationProtocol
    ("docs/guide/evaluate.md", "witness"),  # the row's name in files that exist: pairs.json, metrics.json
    ("simswap_jax/evaluation/candidates.py", "witness"),  # the same
    ("simswap_jax/evaluation/protocols/protocol.py", "witness"),  # the same
    ("simswap_jax/training/update.py", "witness"),  # arrays that witness that an update is finite
    ("simswap_jax/weights/hub.py", "gated"),  # the Hub's own word
    ("simswap_jax/models/face_parsing.py", "gated"),  # BiSeNet's own channels
}


def sources():
    """Python files that are read: the package, experiments, benchmarks, examples."""
    folders = ("simswap_jax", "benchmarks", "examples")
    return [path for name in folders for path in sorted((ROOT / name).rglob("*.py"))]


def others():
    """What speaks to people besides: YAML files, whose texts stand in messages, and notebooks."""
    return [*sorted((ROOT / "configs").rglob("*.yaml")), *sorted((ROOT / "examples").glob("*.ipynb"))]


def pages():
    """What people read, all of it."""
    cards = sorted(PACKAGE.rglob("*.md"))
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")), *cards]


@cache
def read(path):
    """A file's text, with the tables of former names left out."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return OLD_NAMES_SECTION.sub(lambda section: "\n" * section[0].count("\n"), text)
    lines = text.split("\n")
    for node in ast.walk(ast.parse(text)):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and any(map(OLD_NAMES.match, names)):
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "\n".join(lines)


def named(path):
    return path.relative_to(ROOT).as_posix()


@cache
def flattened(path):
    """A file's text in small letters on one line: where a phrase is not in it, the slow search finds none."""
    return re.sub(r"\s+(?:#\s*)?", " ", read(path).lower())


def found(paths, words, pattern):
    """`file:line: word → term` of every hit that is not allowed."""
    hits = []
    for path in paths:
        text = read(path)
        for word, term in words.items():
            if (named(path), word) in ALLOWED or (pattern is phrase and not re.search(word, flattened(path))):
                continue
            for match in re.finditer(pattern(word), text):
                line = text.count("\n", 0, match.start()) + 1
                hits.append(f"{named(path)}:{line}: {' '.join(match[0].split())} → {term}")
    return hits


def phrase(expression):
    """A whole phrase, in any case, wherever its line is broken (also inside a comment)."""
    spaced = expression.replace(" ", r"(?:\s+(?:\#\s*)?)")
    return rf"(?i)(?<![\w-])(?:{spaced})(?![\w-])"


def identifier(name):
    return rf"(?<![\w]){re.escape(name)}(?![\w])"


def definitions(tree, inside=""):
    """(qualified name, line) of every function, class, method and annotated field."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield f"{inside}{node.name}", node.lineno
            yield from definitions(node, f"{node.name}." if isinstance(node, ast.ClassDef) else "")
        elif isinstance(node, ast.AnnAssign) and inside and isinstance(node.target, ast.Name):
            yield f"{inside}{node.target.id}", node.lineno
        else:
            yield from definitions(node, inside)


def retired_definitions(text):
    """(name, line) of every definition whose name is retired."""
    for name, line in definitions(ast.parse(text)):
        if name in DEFINITIONS:
            yield name, line


def report(hits):
    assert hits == [], f"{len(hits)} retired:\n" + "\n".join(hits)


def test_no_file_has_a_retired_name():
    kept = [path for path in PACKAGE.rglob("*") if path.suffix in ("", ".py") and "__pycache__" not in path.parts]
    inside = [path.relative_to(PACKAGE) for path in kept]
    deprecated = [path for path in inside if path.parts[0] == "interop"]  # stays importable for one release
    hits = [f"{path} → {FILES[path.stem]}" for path in inside if path.stem in FILES and path not in deprecated]
    report(hits)


def test_no_definition_has_a_retired_name():
    report(
        [
            f"{named(path)}:{line}: {name} → {DEFINITIONS[name]}"
            for path in sources()
            for name, line in retired_definitions(read(path))
        ]
    )


def test_no_identifier_is_retired():
    report(found([*sources(), *pages()], IDENTIFIERS, identifier))


def test_no_phrase_is_retired():
    report(found([*sources(), *pages(), *others()], PHRASES, phrase))


def test_no_page_has_a_retired_phrase():
    report(found(pages(), PAGE_PHRASES, phrase))


def test_the_first_page_has_the_words_of_the_field():
    code = re.compile(r"```.*?```|`[^`]*`|\]\([^)]*\)", re.DOTALL)
    prose = code.sub(lambda block: "\n" * block[0].count("\n"), read(ROOT / "README.md"))
    report(
        [
            f"README.md:{prose.count(chr(10), 0, match.start()) + 1}: {match[0]} → {term}"
            for word, term in README_PHRASES.items()
            for match in re.finditer(phrase(word), prose)
        ]
    )


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("the true\n    answer of a swap", True),
        ("# of the true\n# answer", True),
        ("a Film, cut", True),
        ("filmed and filmstrip", False),
        ("a true answers", True),
        ("untrue answer", False),
        ("128 numbers", True),
        ("random numbers", False),
        ("harden the shell", False),
    ],
)
def test_phrases_are_found_whole(text, hit):
    assert any(re.search(phrase(expression), text) for expression in PHRASES) == hit


def test_tables_of_old_names_are_left_out(tmp_path):
    file = tmp_path / "old.py"
    file.write_text('RENAMED_FIELDS = {\n    "gated": "composition_mask",\n}\nGATE = "gate_cell"\n')
    assert "gated" not in read(file)
    assert "gate_cell" in read(file)
    page = tmp_path / "old.md"
    page.write_text("# Fields\n\n## Former names\n\n| `gated` |\n\n## Others\n\n`gate_cell`\n")
    assert "gated" not in read(page)
    assert read(page).split("\n")[8] == "`gate_cell`"


def test_definitions_are_found_where_they_are():
    text = "class Runner:\n    patch: int\n    def here(self): ...\ndef share(): ...\nfirst = 1\n"
    assert dict(definitions(ast.parse(text))) == {"Runner": 1, "Runner.patch": 2, "Runner.here": 3, "share": 4}
    assert [name for name, _ in retired_definitions(text)] == ["Runner.here", "share"]
