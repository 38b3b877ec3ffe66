"""Published values to stand beside ours. They come from other pictures and other evaluators."""

from dataclasses import dataclass


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
