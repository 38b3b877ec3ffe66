"""Who is who in a film: tracks into people, and which of them get which source."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.faces.alignment import fits
from simswap_jax.faces.detection import Face
from simswap_jax.faces.tracking import majority, size_of, steadied
from simswap_jax.inference.photo import CHOICES, FoundFace, unusable
from simswap_jax.inference.swapper import Faces, FaceSwapper, normalised
from simswap_jax.video.detect import Look, Track

FEWEST = 3  # sightings of a track that counts, in films of ten times as many frames
KEEP_POSE = 0.8  # another pose of the template is taken where its residual is under this part of the present one's

# A face to be put back in a frame: where it is, and the identity vector that it gets; None: it stays as it is.
Placed = tuple[FoundFace, np.ndarray | None]


def wants_vectors(faces: Faces, strength: float) -> bool:
    """Whether a choice needs identity vectors of the film's faces."""
    return strength < 1.0 or not (isinstance(faces, str) and faces == "all")


def counted(look: Look) -> list[Track]:
    """The tracks that are no flickers of the detector."""
    fewest = min(FEWEST, max(1, len(look.times) // (10 * FEWEST) + 1))
    return [track for track in look.tracks.values() if len(track.frames) >= fewest]


def choose(tracks: Sequence[Track], vector: np.ndarray | None, faces: Faces, threshold: float) -> dict[int, np.ndarray]:
    """Which tracks are swapped, and with whose identity: number → the source's vector [D].

    Args:
      tracks: all that count.
      vector, faces, threshold: as in `FaceSwapper.swap`. ``"largest"`` is the person who fills most of the film, and
        ``"best"`` the one who is found most surely, on average.

    Raises:
      UserError: nobody is there, or not who is named.
    """
    if not tracks:
        raise UserError("no face was found in this film; give one that shows a face.")
    if isinstance(faces, str):
        if faces not in CHOICES:
            raise UserError(f"'{faces}' says not which faces to swap; choose {', '.join(CHOICES)}, or name a person.")
        if vector is None:
            raise UserError("there is no source; give its identity vector.")
        groups = [list(tracks)] if faces == "all" else people(tracks, threshold)
        chosen = max(groups, key=_area if faces == "largest" else _sureness)
        return {track.number: vector for track in chosen}
    pairs = [(faces, vector)] if isinstance(faces, np.ndarray) else list(faces)
    if not pairs:
        raise UserError("nobody is named to be swapped; give at least one pair (person, source).")
    given: dict[int, np.ndarray] = {}
    for number, person in named(tracks, [reference for reference, _ in pairs], threshold).items():
        source = pairs[person][1]
        if source is None:
            raise UserError("there is no source; give its identity vector.")
        given[number] = source
    return given


def people(tracks: Sequence[Track], threshold: float) -> list[list[Track]]:
    """Tracks by person: the longest first, each joins whom it is most alike, unless they are in one frame together."""
    groups: list[list[Track]] = []
    for track in sorted(tracks, key=lambda track: (-len(track.frames), track.number)):
        best, where = threshold, None
        for group in groups:
            alike = _cosine(track, group[0])
            if alike >= best and not any(together(track, other) for other in group):
                best, where = alike, group
        if where is None:
            groups.append([track])
        else:
            where.append(track)
    return groups


def named(tracks: Sequence[Track], references: Sequence[np.ndarray], threshold: float) -> dict[int, int]:
    """Which tracks are of which named person: number → index of the reference; nobody is in a frame twice.

    Raises:
      UserError: somebody is nowhere in the film; it says how near the nearest face came.
    """
    if not -1.0 <= threshold <= 1.0:
        raise UserError(f"the threshold is {threshold}; it is a cosine, from −1 to 1 (different people are near 0).")
    wanted = normalised(np.stack(references))
    known = [(track, track.vector) for track in tracks]
    cosines = [
        (float(wanted[person] @ vector), person, track)
        for track, vector in known
        if vector is not None
        for person in range(len(wanted))
    ]
    given: dict[int, int] = {}
    taken: list[list[Track]] = [[] for _ in wanted]
    for cosine, person, track in sorted(cosines, key=lambda row: (-row[0], row[1], row[2].number)):
        if cosine < threshold:
            break
        if track.number not in given and not any(together(track, other) for other in taken[person]):
            given[track.number] = person
            taken[person].append(track)
    for person, mine in enumerate(taken):
        if not mine:
            nearest = max((cosine for cosine, who, _ in cosines if who == person), default=-1.0)
            who = "the person" if len(wanted) == 1 else f"person {person + 1} of {len(wanted)}"
            raise UserError(
                f"{who} is not in this film (the nearest of its faces has a cosine of {nearest:.2f}, wanted are "
                f"{threshold:.2f}); give another picture of them or lower the threshold."
            )
    return given


def together(one: Track, other: Track) -> bool:
    """Whether two tracks share a frame."""
    if one.frames[-1] < other.frames[0] or other.frames[-1] < one.frames[0]:
        return False
    return not set(one.frames).isdisjoint(other.frames)


def _cosine(one: Track, other: Track) -> float:
    mine, theirs = one.vector, other.vector
    return -1.0 if mine is None or theirs is None else float(mine @ theirs)


def _area(group: Sequence[Track]) -> float:
    return sum(face.area for track in group for face in track.faces)


def _sureness(group: Sequence[Track]) -> float:
    return float(np.mean([face.score for track in group for face in track.faces]))


class Plan:
    """Where every face of a film is put back: steady, without gaps, with one pose for as long as it fits."""

    def __init__(
        self, look: Look, tracks: Sequence[Track], chosen: dict[int, np.ndarray], swapper: FaceSwapper, strength: float
    ) -> None:
        """Plan a film; ``chosen`` as from `choose`, ``strength`` as in `FaceSwapper.swap_aligned`."""
        self._frames: dict[int, list[tuple[np.ndarray, int, Face, np.ndarray | None]]] = {}
        self._template, self._size = swapper.model.alignment, swapper.face_size
        self.faces = 0
        times = np.array(look.times)
        for track in tracks:
            vector = chosen.get(track.number)
            if vector is not None and strength < 1.0 and track.vector is not None:
                # One own identity for the whole track: a new one in every frame would make the result tremble.
                vector = normalised((1.0 - strength) * track.vector + strength * normalised(vector))
            self._add(track, times, vector)

    def __getitem__(self, index: int) -> list[Placed]:
        """The faces of a frame."""
        return [
            (FoundFace(face, fits(landmarks, self._template, self._size)[pose]), vector)
            for landmarks, pose, face, vector in self._frames.get(index, [])
        ]

    def _add(self, track: Track, times: np.ndarray, vector: np.ndarray | None) -> None:
        frames = np.arange(track.frames[0], track.frames[-1] + 1)
        place = np.array(track.frames) - frames[0]
        sighted: np.ndarray = np.zeros(len(frames), bool)
        sighted[place] = True
        raw = np.zeros((len(frames), 5, 2))
        raw[place] = [face.landmarks for face in track.faces]
        size = float(np.median([size_of(face) for face in track.faces]))
        landmarks = steadied(frames, times[frames], sighted, raw, size)
        nearest = np.maximum.accumulate(np.where(sighted, np.arange(len(frames)), 0))
        face_at = dict(zip(place.tolist(), track.faces))
        faces = [replace(face_at[int(i)], landmarks=points) for i, points in zip(nearest, landmarks)]
        poses, usable, pose = [], [], None
        for face in faces:
            found = fits(face.landmarks, self._template, self._size)
            best = min(range(len(found)), key=lambda i: found[i].residual)
            if pose is None or found[best].residual < KEEP_POSE * found[pose].residual:
                pose = best
            poses.append(pose)
            usable.append(not unusable(face, found[best]))
        for index, points, pose, face, good in zip(frames, landmarks, poses, faces, majority(np.array(usable))):
            self._frames.setdefault(int(index), []).append((points, pose, face, vector if good else None))
            self.faces += bool(good and vector is not None)
