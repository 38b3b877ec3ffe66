"""Which tracks of a video are swapped, and where each face is put back, frame by frame."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.faces.alignment import fits
from simswap_jax.faces.face import Face, size_of
from simswap_jax.faces.tracking import majority, smooth_landmarks
from simswap_jax.inference.arrays import mixed
from simswap_jax.inference.options import SwapOptions
from simswap_jax.inference.photo import FoundFace, unusable
from simswap_jax.inference.selection import select_faces
from simswap_jax.inference.swapper import FaceSwapper
from simswap_jax.video.detect import Detections, Track

FEWEST = 3  # detections of a track that counts; 2 in a video of fewer than 60 frames, 1 of fewer than 30
KEEP_POSE = 0.8  # another pose of the template is taken where its residual is under this part of the present one's

# A face to be put back in a frame: where it is, and the identity vector that it gets; None: it stays as it is.
PlacedFace = tuple[FoundFace, np.ndarray | None]


def assign_identities(
    detections: Detections, swapper: FaceSwapper, source: np.ndarray | None, options: SwapOptions
) -> "FramePlan":
    """Which faces of which frames are swapped, and with whose identity.

    Args:
      detections: of the whole video.
      swapper: whose template and face size are used.
      source: the identity vector [D]; None where the named people bring theirs.
      options: whom to swap.

    Raises:
      UserError: nobody is there, or not who is named, or no face can be used.
    """
    tracks = drop_flickers(detections)
    chosen = select_faces(tracks, source, options, swapper.identity_size, "video")
    plan = FramePlan(swapper.model.alignment, swapper.face_size)
    for index, track in enumerate(tracks):
        plan.add(track, np.array(detections.times), vector_of(track, chosen.get(index), options.strength))
    if not plan.faces:
        raise UserError(
            "every face of this video is too small or turned too far away; give one that shows it better.",
            "no-usable-face-in-video",
        )
    return plan


def drop_flickers(detections: Detections) -> list[Track]:
    """The tracks that are no flickers of the detector."""
    fewest = min(FEWEST, max(1, len(detections.times) // (10 * FEWEST) + 1))
    return [track for track in detections.tracks.values() if len(track.frames) >= fewest]


def vector_of(track: Track, source: np.ndarray | None, strength: float) -> np.ndarray | None:
    """The identity that a track gets: the source's, mixed with the track's own where the strength is not 1.

    One own identity for the whole track: a new one in every frame would make the result tremble.
    """
    if source is None or strength == 1.0 or track.vector is None:
        return source
    return mixed(track.vector, source, strength)


class FramePlan:
    """Where every face of a video is put back: steady, without gaps, with one pose for as long as it fits.

    Attributes:
      faces: how many are swapped, over all frames.
    """

    def __init__(self, template: str, size: int) -> None:
        self.faces = 0
        self._frames: dict[int, list[tuple[np.ndarray, int, Face, np.ndarray | None]]] = {}
        self._template, self._size = template, size

    def __getitem__(self, index: int) -> list[PlacedFace]:
        """The faces of a frame."""
        return [
            (FoundFace(face, fits(landmarks, self._template, self._size)[pose]), vector)
            for landmarks, pose, face, vector in self._frames.get(index, [])
        ]

    def add(self, track: Track, times: np.ndarray, vector: np.ndarray | None) -> None:
        """Plan a track.

        Args:
          track: a face through the video.
          times: float [frames], of all frames of the video in seconds.
          vector: the identity [D] that it gets; None: it stays as it is.
        """
        frames = np.arange(track.frames[0], track.frames[-1] + 1)
        faces = steady_faces(track, frames, times[frames])
        poses, usable = self._poses(faces)
        for index, pose, face, good in zip(frames, poses, faces, majority(np.array(usable))):
            placed = (face.landmarks, pose, face, vector if good else None)
            self._frames.setdefault(int(index), []).append(placed)
            self.faces += bool(good and vector is not None)

    def _poses(self, faces: Sequence[Face]) -> tuple[list[int], list[bool]]:
        """The pose of the template for each frame, kept for as long as it fits; and whether the face can be used."""
        poses, usable, pose = [], [], None
        for face in faces:
            found = fits(face.landmarks, self._template, self._size)
            best = min(range(len(found)), key=lambda i: found[i].residual)
            if pose is None or found[best].residual < KEEP_POSE * found[pose].residual:
                pose = best
            poses.append(pose)
            usable.append(not unusable(face, found[best]))
        return poses, usable


def steady_faces(track: Track, frames: np.ndarray, times: np.ndarray) -> list[Face]:
    """A track's face in each of its frames: landmarks smoothed, and filled in where it was not detected.

    Args:
      track: a face through the video.
      frames: int [N], all from its first to its last.
      times: float [N], theirs in seconds.
    """
    place = np.array(track.frames) - frames[0]
    detected: np.ndarray = np.zeros(len(frames), bool)
    detected[place] = True
    raw = np.zeros((len(frames), 5, 2))
    raw[place] = [face.landmarks for face in track.faces]
    size = float(np.median([size_of(face) for face in track.faces]))
    landmarks = smooth_landmarks(frames, times, detected, raw, size)
    nearest = np.maximum.accumulate(np.where(detected, np.arange(len(frames)), 0))
    face_at = dict(zip(place.tolist(), track.faces))
    return [replace(face_at[int(i)], landmarks=points) for i, points in zip(nearest, landmarks)]
