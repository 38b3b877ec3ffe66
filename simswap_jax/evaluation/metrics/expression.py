"""Expression error: the distance of landmarks that is left once pose and the person's own shape are taken out.

    face of a picture  =  the person's mean face  +  what pose does to every face  +  expression

Each face is brought onto the mean of all by a similarity (place, size and roll fall out), the person's mean over their
real pictures is subtracted, and so is a linear and squared function of yaw and pitch, fitted over everybody's real
pictures. What is left of the result and of the target is compared. With YuNet's five points this sees mouths only.
"""

from dataclasses import dataclass

import numpy as np

ROUNDS = 5  # of Procrustes' mean
RIDGE = 1e-3


@dataclass(frozen=True)
class FaceShapes:
    """What real pictures say of landmarks.

    Attributes:
      mean: float [P, 2], the mean face: centred, points at mean distance 1 from the centre.
      people: person → float [P, 2], that person's mean face less the mean of all.
      pose: float [F, 2 P], what the features of a pose add.
      eyes: the unit of distances: from eye to eye (points 0 and 1 of five), else 1 (the mean distance from the centre).
    """

    mean: np.ndarray
    people: dict[str, np.ndarray]
    pose: np.ndarray
    eyes: float


def fit(landmarks: np.ndarray, person: list[str], angles: np.ndarray | None) -> FaceShapes:
    """Learn from real pictures.

    Args:
      landmarks: float [N, P, 2]; NaN where no face was found.
      person: N names.
      angles: yaw, pitch and roll in degrees [N, 3]; None: pose stays in.

    Raises:
      ValueError: no landmarks at all.
    """
    seen = np.isfinite(landmarks).all(axis=(1, 2))
    if not seen.any():
        raise ValueError("no landmarks were found in any picture.")
    faces, names = np.asarray(landmarks, np.float64)[seen], np.array(person)[seen]
    mean = _centred(faces[0])
    for _ in range(ROUNDS):
        mean = _centred(np.mean([onto(face, mean) for face in faces], axis=0))
    shapes = np.stack([onto(face, mean) - mean for face in faces])
    features = _pose_features(angles[seen] if angles is not None else None, len(shapes))
    pose = np.zeros((features.shape[1], shapes[0].size))
    people: dict[str, np.ndarray] = {}
    for _ in range(3):  # people's means and the pose's part, in turn: a person may look to the left in every picture
        rest = shapes - (features @ pose).reshape(shapes.shape)
        people = {name: rest[names == name].mean(axis=0) for name in np.unique(names).tolist()}
        own = (shapes - np.stack([people[name] for name in names.tolist()])).reshape(len(shapes), -1)
        squares = features.T @ features + RIDGE * len(features) * np.eye(features.shape[1])
        pose = np.linalg.solve(squares, features.T @ own)
    eyes = float(np.linalg.norm(mean[1] - mean[0])) if len(mean) == 5 else 1.0
    return FaceShapes(mean, people, pose, eyes)


def expressions(shapes: FaceShapes, landmarks: np.ndarray, person: list[str], angles: np.ndarray | None) -> np.ndarray:
    """What is left of faces [K, P, 2] of ``person`` [K] at ``angles`` [K, 3]: float [K, P, 2]; NaN where unknown."""
    features = _pose_features(angles, len(landmarks))
    posed = (features @ shapes.pose).reshape(len(landmarks), *shapes.mean.shape)
    rest = np.full(posed.shape, np.nan)
    for row, (face, name) in enumerate(zip(landmarks, person)):
        if np.isfinite(face).all() and name in shapes.people:
            rest[row] = onto(face, shapes.mean) - shapes.mean - shapes.people[name] - posed[row]
    return rest


def expression_error(shapes: FaceShapes, results: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Root mean square distance of the points of `expressions` [K, P, 2], in percent of the distance between the eyes
    (of the mean distance from the centre, if the points are not five): float [K], NaN where unknown.
    """
    return 100.0 / shapes.eyes * np.sqrt(((results - targets) ** 2).sum(axis=2).mean(axis=1))


def onto(face: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """A face [P, 2] moved, turned and scaled as near to a centred mean face [P, 2] as a similarity can bring it."""
    z, w = (points @ np.array([1.0, 1.0j]) for points in (face, mean))
    z = z - z.mean()
    turned = z * ((np.conj(z) * w).sum() / max(float((np.abs(z) ** 2).sum()), 1e-12))
    return np.stack([turned.real, turned.imag], axis=1)


def _centred(face: np.ndarray) -> np.ndarray:
    centred = face - face.mean(axis=0)
    return centred / np.linalg.norm(centred, axis=1).mean()


def _pose_features(angles: np.ndarray | None, count: int) -> np.ndarray:
    """Yaw and pitch, their squares and product, in units of 30 degrees [count, 5]; nothing [count, 0] without angles.

    Roll falls out in the similarity.
    """
    if angles is None:
        return np.zeros((count, 0))
    yaw, pitch = (np.clip(np.asarray(angles, np.float64)[:, i] / 30.0, -3.0, 3.0) for i in (0, 1))
    return np.stack([yaw, pitch, yaw**2, pitch**2, yaw * pitch], axis=1)
