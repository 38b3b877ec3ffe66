"""Which faces of a photo or video are swapped, and with whose identity: one choice for photos, videos and the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.faces.detection import Face
from simswap_jax.inference.arrays import check_vectors
from simswap_jax.inference.options import SwapOptions


class Candidate(Protocol):
    """A face that can be swapped: of a photo, or followed through the frames of a video.

    Attributes:
      frames: numbers of the frames in which it was detected, rising; a photo is one frame.
      faces: as it was detected in each.
      vector: its identity vector [D], L2-normalised; None if unknown.
    """

    @property
    def frames(self) -> Sequence[int]: ...  # noqa: D102

    @property
    def faces(self) -> Sequence[Face]: ...  # noqa: D102

    @property
    def vector(self) -> np.ndarray | None: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class PhotoCandidate:
    """A face of a photo."""

    faces: tuple[Face]
    vector: np.ndarray | None = None
    frames: tuple[int] = (0,)


def needs_vectors(options: SwapOptions, video: bool = False) -> bool:
    """Whether a choice looks at identity vectors; in a video also to know who is one person."""
    return options.faces.which == "named" or (video and (options.faces.which != "all" or options.strength != 1.0))


def select_faces(
    candidates: Sequence[Candidate],
    source: np.ndarray | None,
    options: SwapOptions,
    identity_size: int,
    where: str = "photo",
) -> dict[int, np.ndarray]:
    """Which candidates are swapped, and with whose identity.

    ``"largest"`` is the person who fills most of all frames, and ``"best"`` the one who is detected most surely, on
    average; both with all their candidates. A named person is nowhere twice in a frame.

    Args:
      candidates: in a photo its faces, in a video its tracks.
      source: the identity vector [D]; None where the named people bring theirs.
      options: whom to swap, and the threshold by which a face is a person.
      identity_size: D.
      where: "photo" or "video", for the sentences.

    Returns:
      Index of a candidate → the source's vector, float32 [D], L2-normalised; by rising index.

    Raises:
      UserError: nobody is there, or not who is named; or a source is missing, or given twice.
    """
    if not candidates:
        raise UserError(f"no face was found in this {where}; give one that shows a face.", "no-face")
    selection = options.faces
    if selection.has_sources and source is not None:
        raise UserError(
            "the sources stand in the pairs (person, source); give None as the vector.", "source-given-twice"
        )
    if selection.which == "named":
        people = np.concatenate([check_vectors(person, 1, identity_size) for person, _ in selection.people])
        chosen = match_people(candidates, people, options.threshold, where)
        sources = [source if own is None else own for _, own in selection.people]
    else:
        chosen = dict.fromkeys(_choose(candidates, selection.which, options.threshold), 0)
        sources = [source]
    vectors = [_checked(source, identity_size) for source in sources]
    return {index: vectors[person] for index, person in sorted(chosen.items())}


def _choose(candidates: Sequence[Candidate], which: str, threshold: float) -> list[int]:
    """All, or the candidates of the largest or most surely detected person."""
    if which == "all":
        return list(range(len(candidates)))

    def area(group: Sequence[int]) -> float:
        return sum(face.area for index in group for face in candidates[index].faces)

    def score(group: Sequence[int]) -> float:
        return float(np.mean([face.score for index in group for face in candidates[index].faces]))

    return max(group_by_identity(candidates, threshold), key=area if which == "largest" else score)


def group_by_identity(candidates: Sequence[Candidate], threshold: float) -> list[list[int]]:
    """Candidates by person: the longest first, each joins whom it is most alike, unless they share a frame."""
    groups: list[list[int]] = []
    for index in sorted(range(len(candidates)), key=lambda index: (-len(candidates[index].frames), index)):
        mine = candidates[index]
        best, home = threshold, None
        for group in groups:
            cosine = _cosine(mine, candidates[group[0]])
            if cosine >= best and not any(share_frame(mine, candidates[other]) for other in group):
                best, home = cosine, group
        if home is None:
            groups.append([index])
        else:
            home.append(index)
    return groups


def match_people(
    candidates: Sequence[Candidate], people: np.ndarray, threshold: float, where: str = "photo"
) -> dict[int, int]:
    """Which candidates are which named person, the most alike first; nobody is in a frame twice.

    Args:
      candidates: with identity vectors.
      people: an identity vector of each, L2-normalised [N, D].
      threshold: the least cosine of a person and their face.
      where: for the sentence.

    Returns:
      Index of a candidate → index of a person.

    Raises:
      UserError: somebody is not there; it says the best similarity.
    """
    cosines = [
        (float(people[person] @ candidate.vector), person, index)
        for index, candidate in enumerate(candidates)
        if candidate.vector is not None
        for person in range(len(people))
    ]
    given: dict[int, int] = {}
    for cosine, person, index in sorted(cosines, key=lambda row: (-row[0], row[1], row[2])):
        if cosine < threshold:
            break
        taken = [candidates[other] for other, who in given.items() if who == person]
        if index not in given and not any(share_frame(candidates[index], other) for other in taken):
            given[index] = person
    for person in set(range(len(people))) - set(given.values()):
        nearest = max((cosine for cosine, who, _ in cosines if who == person), default=-1.0)
        if nearest >= threshold:
            raise UserError(
                f"the face of person {person + 1} in this {where} is taken for another of the {len(people)} people, "
                "who is at least as similar; name each person once, with clear pictures.",
                "person-taken",
            )
        raise _not_there(person, len(people), nearest, threshold, where)
    return given


def _not_there(person: int, people: int, nearest: float, threshold: float, where: str) -> UserError:
    who = "the person" if people == 1 else f"person {person + 1} of {people}"
    return UserError(
        f"{who} is not in this {where} (the nearest of its faces has a cosine of {nearest:.2f}, wanted are "
        f"{threshold:.2f}); give another picture of them or lower the threshold.",
        "person-not-found",
    )


def share_frame(one: Candidate, other: Candidate) -> bool:
    """Whether two candidates were detected in the same frame, so that they are two people."""
    if one.frames[-1] < other.frames[0] or other.frames[-1] < one.frames[0]:
        return False
    return not set(one.frames).isdisjoint(other.frames)


def _cosine(one: Candidate, other: Candidate) -> float:
    return -1.0 if one.vector is None or other.vector is None else float(one.vector @ other.vector)


def _checked(source: np.ndarray | None, identity_size: int) -> np.ndarray:
    if source is None:
        raise UserError("there is no source; give its identity vector.", "source-missing")
    return check_vectors(source, 1, identity_size)[0]
