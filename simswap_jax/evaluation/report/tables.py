"""The tables of an evaluation, for terminal, Markdown and page, with published rows, and the sentence above them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simswap_jax.evaluation.candidates import (
    EXTERNAL,
    GENUINE,
    GENUINE_ABOUT,
    GENUINE_TITLE,
    MODEL,
    PASTED,
    TARGET,
    Candidate,
)
from simswap_jax.evaluation.metrics.intervals import Estimate
from simswap_jax.evaluation.metrics.summary import Summary
from simswap_jax.evaluation.metrics.yaw import BINS, ByYaw
from simswap_jax.evaluation.protocols.protocol import Training
from simswap_jax.io.html_report import Table, Tile


@dataclass(frozen=True)
class Published:
    """One row of somebody else's table; None where it has no such value. ID retrieval in percent, pose in degrees."""

    method: str
    where: str
    retrieval: float
    cosine: float | None = None
    pose: float | None = None
    expression: float | None = None
    fid: float | None = None


BENCHMARK = "arXiv 2605.00883"  # measured with CosFace and Hopenet
FRAMES = "its own paper"  # on FaceForensics++

PUBLISHED = (
    Published("SimSwap, the paper", FRAMES, 92.83, pose=1.53),
    Published("SimSwap", BENCHMARK, 90.00, 0.61, 2.14, 2.43, 21.75),
    Published("inswapper", BENCHMARK, 96.92, 0.73, 2.84, 2.64, 30.50),
    Published("HifiFace", BENCHMARK, 93.37, 0.62, 3.59, 3.12, 20.40),
    Published("FaceDancer", BENCHMARK, 72.81, 0.49, 3.42, 3.15, 19.14),
    Published("FaceShifter", BENCHMARK, 66.41, 0.44, 5.26, 3.64, 169.11),
    Published("FSGAN", BENCHMARK, 65.08, 0.50, 3.34, 2.35, 56.23),
    Published("DiffSwap", BENCHMARK, 15.64, 0.32, 3.67, 2.88, 96.55),
    Published("SimSwap++", FRAMES, 97.55),
    Published("FaceDancer C", FRAMES, 98.57, pose=2.27),
)


# metric → (column, factor, digits)
PAPER = {
    "retrieval": ("ID retrieval % ↑", 100.0, 1),
    "retrieval_picture": ("by the nearest image % ↑", 100.0, 1),
    "cosine_source": ("ID cosine ↑", 1.0, 3),
    "pose_error": ("pose ° ↓", 1.0, 2),
    "expression_error": ("expression % ↓", 1.0, 2),
    "fid": ("FID ↓", 1.0, 2),
    "self_l1": ("reconstruction L1 ↓", 1.0, 4),
}
NEEDS = {"pose_error": "--pose", "expression_error": "--landmarks", "fid": "--features", "self_l1": "a model"}
MISSING = "—"
HEADLINES = ("retrieval", "cosine_source", "pose_error", "expression_error", "sharpness")
ARROWS = {"retrieval": "↑", "cosine_source": "↑", "pose_error": "↓", "expression_error": "↓", "sharpness": ""}
IDENTITY = {
    "retrieval": ("ID retrieval %", 100.0, 1),
    "retrieval_picture": ("by the nearest image %", 100.0, 1),
    "accepted": ("true-accept rate %", 100.0, 1),
    "nearer_source": ("nearer to source than target %", 100.0, 1),
    "cosine_source": ("cosine to source", 1.0, 3),
    "cosine_target": ("cosine to target", 1.0, 3),
}
ATTRIBUTES = {
    "pose_error": ("pose error, °", 1.0, 2),
    "expression_error": ("expression error, %", 1.0, 2),
    "landmarks_found": ("landmarks found, %", 100.0, 1),
    "sharpness": ("sharpness (Laplacian energy)", 1.0, 3),
    "fid": ("FID", 1.0, 2),
    "kid": ("KID × 1000", 1.0, 2),
}
FACE_PARTS = {
    "mouth_opening": ("opening of the mouth", 1.0, 3),
    "mouth_width": ("width of the mouth", 1.0, 3),
    "eye_opening": ("opening of the eyes", 1.0, 3),
    "brow_height": ("height of the brows", 1.0, 3),
}
LEAKAGE = {
    "leak_hair": ("above the face (hair)", 1.0, 3),
    "leak_background": ("below and beside the face", 1.0, 3),
    "leak_light": ("direction of light", 1.0, 3),
}
SELF = {
    "self_l1": ("L1 (values 0 to 1)", 1.0, 4),
    "self_psnr": ("PSNR, dB", 1.0, 2),
    "self_ssim": ("SSIM", 1.0, 3),
}
TRUTH = {
    "truth_l1": ("L1 (values 0 to 1)", 1.0, 4),
    "truth_psnr": ("PSNR, dB", 1.0, 2),
    "truth_ssim": ("SSIM", 1.0, 3),
}
KEPT = {
    "kept_gaze": ("gaze", 1.0, 3),
    "kept_mouth": ("mouth", 1.0, 3),
}
Columns = Mapping[str, tuple[str, float, int]]


def tables(summary: Summary, titles: Mapping[str, str], false_accept_rate: float) -> list[Table]:
    """All tables that hold a value."""
    captions: list[tuple[Columns, str]] = [
        (
            IDENTITY,
            "Identity: shares and means with 95 % confidence intervals over source people. True-accept rate: share of "
            f"results accepted as the source at a false-accept rate of {100 * false_accept_rate:g} % between real "
            "people.",
        ),
        (
            ATTRIBUTES,
            "Attributes of the target. Pose and expression: difference from the untouched target, expression where "
            "landmarks are found in both. Sharpness inside the face: the target's is 1. FID and KID: against real "
            "pictures of the same people.",
        ),
        (
            FACE_PARTS,
            "Expression part by part: correlation of results and targets over the pairs, by 98 landmarks (1: the part "
            "does what the target's does).",
        ),
        (
            LEAKAGE,
            "Leakage of source attributes other than identity (0 = none, 1 = as in the source image).",
        ),
        (SELF, "Reconstruction: targets swapped with their own identity, against themselves."),
        (TRUTH, "Against the ground truth: the source's identity with the target's attributes."),
        (
            KEPT,
            "Kept of the target: share of results nearer to the ground truth than to the same with the source's gaze "
            "or mouth, of the pairs in which the two differ.",
        ),
    ]
    return [table for columns, caption in captions if (table := one_table(summary, titles, columns, caption))]


def one_table(summary: Summary, titles: Mapping[str, str], columns: Columns, caption: str) -> Table | None:
    """Rows and columns that hold a value; None without any."""
    used = {name: column for name, column in columns.items() if any(name in row for row in summary.values())}
    rows = [
        [titles[key], *(cell(row.get(name), factor, digits) for name, (_, factor, digits) in used.items())]
        for key, row in summary.items()
        if any(name in row for name in used)
    ]
    return Table(caption, ["", *(title for title, _, _ in used.values())], rows, folded=True) if rows else None


KINDS = {MODEL: "a model", EXTERNAL: "another program's results"}


def rows_table(candidates: Sequence[Candidate]) -> Table:
    """The rows of the tables: title, key in metrics.json, and what each is."""
    rows = [[one.title, one.key, getattr(one, "about", "") or KINDS.get(one.kind, "")] for one in candidates]
    caption = "The rows of these tables: by which key metrics.json has each (under rows), and what it is."
    return Table(
        caption,
        ["", "key in metrics.json", "what it is"],
        [*rows, [GENUINE_TITLE, GENUINE, GENUINE_ABOUT]],
        folded=True,
        text=(1, 2),
    )


BY_YAW = {"cosine_source": ("cosine to source", 3), "pose_error": ("pose error, °", 2)}


def yaw_table(binned: ByYaw, titles: Mapping[str, str]) -> Table:
    """Candidates × bins of the difference of yaw."""
    used = [name for name in BY_YAW if any(name in row for row in binned.values.values())]
    rows = [
        [titles[key], *(cell(one, 1.0, BY_YAW[name][1]) for name in used for one in row.get(name, [None] * len(BINS)))]
        for key, row in binned.values.items()
    ]
    counts = ", ".join(f"{count} pairs {name}" for name, count in zip(BINS, binned.pairs))
    return Table(
        f"By difference of yaw between source and target ({counts}): a method that warps the source's face loses where "
        "they look in different directions.",
        ["", *(f"{BY_YAW[name][0]}, {label}" for name in used for label in BINS)],
        rows,
        folded=True,
    )


def headlines(summary: Summary, titles: Mapping[str, str], keys: Sequence[str], people: int) -> list[Tile]:
    """A tile for each of the values that count most: the first candidate's, with what the others and the bounds have.

    Args:
      summary: the estimates.
      titles: key → title.
      keys: the candidates, first the one whose values are large.
      people: in the gallery.
    """
    columns = ATTRIBUTES | PAPER
    tiles = []
    for name in (name for name in HEADLINES if name in summary[keys[0]]):
        label, factor, digits = columns[name]
        low, high = (f"{factor * end:.{digits}f}" for end in (summary[keys[0]][name].low, summary[keys[0]][name].high))
        beside = [key for key in (*keys[1:], "target", GENUINE) if name in summary.get(key, {})]
        others = [f"{titles[key]}: {factor * summary[key][name].mean:.{digits}f}" for key in beside]
        value = f"{factor * summary[keys[0]][name].mean:.{digits}f}"
        rule = [f"top-1 of {people} people"] if name == "retrieval" else []
        tiles.append(Tile(_head(label, name), value, f"95 % interval {low} to {high}", [*rule, *others]))
    return tiles


def paper_table(summary: Summary, titles: Mapping[str, str], people: int) -> Table:
    """Methods × metrics in the form of the paper's.

    Args:
      summary: the estimates.
      titles: key → title.
      people: in the gallery, among whom identities are retrieved.
    """
    rows = [
        [titles[key], *(cell(row.get(name), factor, digits) for name, (_, factor, digits) in PAPER.items())]
        for key, row in summary.items()
    ]
    missing = [name for name in PAPER if not any(name in row for row in summary.values())]
    needed = ", ".join(f"{PAPER[name][0].rstrip(' ↑↓')} needs {NEEDS[name]}" for name in missing if name in NEEDS)
    return Table(
        f"ID retrieval: the nearest of {people} people, by the mean of their images; beside it the paper's rule, the "
        f"nearest single image. {MISSING}: not measured{f' ({needed})' if needed else ''}.",
        ["", *(title for title, _, _ in PAPER.values())],
        rows,
    )


def narrow_table(summary: Summary, titles: Mapping[str, str], keys: Sequence[str]) -> Table:
    """The candidates and their bounds, by the values that count most, narrow enough for a terminal."""
    columns = ATTRIBUTES | PAPER
    used = [name for name in HEADLINES if any(name in summary[key] for key in keys)]
    shown = [key for key in (*keys, TARGET.key, PASTED.key, "shift", GENUINE) if key in summary]
    heads = [_head(columns[name][0], name) for name in used]
    values = []
    for key in shown:
        cells = [cell(summary[key].get(name), *columns[name][1:]) for name in used]
        values.append([cells[0], *(text.partition(" [")[0] for text in cells[1:])])
    taken = sum(2 + max(map(len, column)) for column in zip(heads, *values))
    titled = [[_cut(titles[key], max(LEAST, TERMINAL - taken)), *row] for key, row in zip(shown, values)]
    return Table("", ["", *heads], titled)


def _cut(title: str, letters: int) -> str:
    return title if len(title) <= letters else f"{title[: letters - 1]}…"


def _head(label: str, name: str) -> str:
    """What a value is called where there is little room, and which way is better."""
    return f"{label.partition(' (')[0].rstrip(' ↑↓')} {ARROWS[name]}".strip()


TERMINAL, LEAST = 100, 16  # columns of a terminal; letters of a row's title at least
CAUTION = (
    "Published rows come from other pictures, another gallery and other evaluators (expression and FID in other units "
    "and features), so they say what such tables look like, not who is better."
)


def published_table() -> Table:
    """The published rows alone, folded, with where each was published."""
    rows = []
    for one in PUBLISHED:
        values = (one.retrieval, one.cosine, one.pose, one.expression, one.fid)
        cells = [MISSING if value is None else f"{value:.2f}" for value in values]
        rows.append([f"{one.method} (published)", *cells, f"published: {one.where}"])
    names = ("retrieval_picture", "cosine_source", "pose_error", "expression_error", "fid")
    heads = ["ID retrieval % ↑", *(PAPER[name][0] for name in names[1:])]
    return Table(f"For orientation, published numbers. {CAUTION}", ["", *heads, "origin"], rows, folded=True)


def cell(value: Estimate | None, factor: float, digits: int) -> str:
    """A value with its interval, or the sign of what was not measured."""
    return MISSING if value is None else value.times(factor).text(digits)


def markdown(table: Table) -> str:
    """A table in GitHub's Markdown, its caption above."""
    lines = [list(table.header), ["---", *["---:"] * (len(table.header) - 1)], *(list(row) for row in table.rows)]
    body = "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)
    return f"{table.caption}\n\n{body}\n"


def markdown_page(title: str, opening: str, every: Sequence[Table]) -> str:
    """All tables as one Markdown text."""
    return "\n".join([f"# {title}\n", f"{opening}\n", *(markdown(table) for table in every)])


CAUTIONS = {
    Training.HELD_OUT: "",
    Training.STATED_UNSEEN: " That no training saw these people is what the request says (--people unseen).",
    Training.PERHAPS: " The training may have seen these people (--people any), which flatters the model.",
    Training.OTHER_PICTURES: " The training saw these people, in other pictures than these (--protocol known).",
    Training.UNKNOWN: " Whether a training saw these people is not known.",
}


def opening(metrics: Mapping[str, Any], summary: Summary, key: str) -> str:
    """One sentence on the candidate ``key``, and one more where the values mean less than they seem to."""
    protocol, recogniser = metrics["protocol"], metrics["judges"]["identity"]["name"]
    row, people, training = summary[key], protocol["gallery_people"], protocol["people_in_training"]
    identities = "held-out identities" if training == Training.HELD_OUT else "identities"
    sentence = (
        f"{key} on {protocol['pairs']} swaps of {protocol['people']} {identities}: ID retrieval by {recogniser} "
        f"{row['retrieval'].mean:.1%} (top-1 of {people}, chance {1 / people:.1%}), "
        f"{row['nearer_source'].mean:.1%} nearer to the source image than to the target"
    )
    if "pose_error" in row:
        floor = summary["shift"]["pose_error"].mean
        sentence += f", pose error {row['pose_error'].mean:.1f}° (noise floor {floor:.1f}°)"
    return f"{sentence}.{CAUTIONS[training]}{judge_caution(metrics)}"


def judge_caution(metrics: Mapping[str, Any]) -> str:
    """A sentence where the recogniser is what models were trained against; empty where it is not."""
    if not metrics["judge_is_training_network"]:
        return ""
    names = ", ".join(metrics["judge_is_training_network"])
    return f" The recogniser is the network that {names} was trained with, so it flatters the identity metrics."
