"""The tables of an evaluation, for terminal, Markdown and page."""

from collections.abc import Mapping, Sequence

from simswap_jax.evaluation.metrics.intervals import Estimate
from simswap_jax.evaluation.report.published import PUBLISHED
from simswap_jax.io.html_report import Table

Summary = Mapping[str, Mapping[str, Estimate]]  # row → measure → estimate

# measure → (column, factor, digits)
PAPER = {
    "retrieval_picture": ("ID retrieval % ↑", 100.0, 1),
    "cosine_source": ("ID cosine ↑", 1.0, 3),
    "pose_error": ("pose ° ↓", 1.0, 2),
    "expression_error": ("expression % ↓", 1.0, 2),
    "fid": ("FID ↓", 1.0, 2),
    "self_l1": ("reconstruction L1 ↓", 1.0, 4),
}
IDENTITY = {
    "retrieval": ("person found, top-1", 1.0, 3),
    "retrieval_picture": ("by nearest picture", 1.0, 3),
    "accepted": ("accepted", 1.0, 3),
    "nearer_source": ("nearer to source than target", 1.0, 3),
    "cosine_source": ("cosine to source", 1.0, 3),
    "cosine_target": ("cosine to target", 1.0, 3),
}
KEPT = {
    "pose_error": ("pose, °", 1.0, 2),
    "expression_error": ("expression, %", 1.0, 2),
    "sharpness": ("Laplacian energy", 1.0, 3),
    "fid": ("FID", 1.0, 2),
    "kid": ("KID × 1000", 1.0, 2),
}
LEAKS = {
    "leak_hair": ("above the face (hair)", 1.0, 3),
    "leak_background": ("below and beside it", 1.0, 3),
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
Columns = Mapping[str, tuple[str, float, int]]


def tables(summary: Summary, titles: Mapping[str, str], false_accepts: float) -> list[Table]:
    """All tables that have a number in them."""
    captions: list[tuple[Columns, str]] = [
        (
            IDENTITY,
            "Whose face is it? Shares and means with 95 % intervals over source people. Accepted: as the source, at a "
            f"cosine that {false_accepts:g} of the pairs of different real people reach.",
        ),
        (
            KEPT,
            "What is kept of the target? Pose and expression: difference from the untouched target. Laplacian energy "
            "inside the face: the target's is 1. FID and KID: against real pictures of the same people.",
        ),
        (LEAKS, "What of the source comes through that should not: 0 nothing, 1 as in the source's own picture."),
        (SELF, "Targets swapped with their own identity, against themselves."),
        (TRUTH, "Against the true answer: the source's person drawn with the target's attributes."),
    ]
    return [table for columns, caption in captions if (table := one_table(summary, titles, columns, caption))]


def one_table(summary: Summary, titles: Mapping[str, str], columns: Columns, caption: str) -> Table | None:
    """Rows and columns that have a number; None without any."""
    used = {name: column for name, column in columns.items() if any(name in row for row in summary.values())}
    rows = [
        [titles[key], *(cell(row.get(name), factor, digits) for name, (_, factor, digits) in used.items())]
        for key, row in summary.items()
        if any(name in row for name in used)
    ]
    return Table(caption, ["", *(title for title, _, _ in used.values())], rows) if rows else None


def paper_table(summary: Summary, titles: Mapping[str, str]) -> Table:
    """Methods × measures in the form of the paper's, the published rows below ours and marked as theirs."""
    rows = [
        [
            titles[key],
            *(cell(row.get(name), factor, digits) for name, (_, factor, digits) in PAPER.items()),
            "measured here",
        ]
        for key, row in summary.items()
    ]
    for one in PUBLISHED:
        theirs = (one.retrieval, one.cosine, one.pose, one.expression, one.fid)
        numbers = [number(value, digits) for value, digits in zip(theirs, (2, 2, 2, 2, 2))]
        rows.append([f"{one.method} (published)", *numbers, "", f"theirs: {one.where}"])
    return Table(
        "As the paper's table. Published rows are theirs: other pictures, another gallery, other judges (expression "
        "and FID in other units and features), so they say what such tables look like, not who is better.",
        ["", *(title for title, _, _ in PAPER.values()), "whose number"],
        rows,
    )


def cell(value: Estimate | None, factor: float, digits: int) -> str:
    """A number with its interval, or nothing."""
    return "" if value is None else value.times(factor).text(digits)


def number(value: float | None, digits: int) -> str:
    """A number, or nothing."""
    return "" if value is None else f"{value:.{digits}f}"


def markdown(table: Table) -> str:
    """A table in GitHub's Markdown, its caption above."""
    lines = [list(table.header), ["---", *["---:"] * (len(table.header) - 1)], *(list(row) for row in table.rows)]
    body = "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)
    return f"{table.caption}\n\n{body}\n"


def markdown_page(title: str, opening: str, every: Sequence[Table]) -> str:
    """All tables as one Markdown text."""
    return "\n".join([f"# {title}\n", f"{opening}\n", *(markdown(table) for table in every)])
