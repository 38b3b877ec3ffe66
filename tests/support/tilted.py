"""Drawn faces at any tilt, and a detector that has the fault of real ones: it draws upright landmarks across them."""

import cv2
import numpy as np

from simswap_jax.faces.alignment import TEMPLATES
from simswap_jax.faces.face import Face

BACKGROUND, SKIN, BROW = (40, 40, 40), (210, 150, 40), (40, 60, 220)
FOLLOWS = 35.0  # degrees up to which its landmarks follow a tilt


def draw_face(photo, centre, size, tilt):
    """Paint a face into a photo, uint8 RGB; its landmarks [5, 2]. Clockwise, in degrees."""
    centre = np.asarray(centre, float)
    cv2.circle(photo, tuple(round(value) for value in centre), round(size / 2), SKIN, -1)
    brow = centre + size * 0.3 * direction(tilt)
    cv2.circle(photo, tuple(round(value) for value in brow), round(size / 8), BROW, -1)
    return landmarks_at(centre, size, tilt)


def photo_of(tilt, size=100, shape=(300, 400)):
    """A photo with one face of that tilt, and its landmarks."""
    photo = np.full((*shape, 3), BACKGROUND, np.uint8)
    return photo, draw_face(photo, (shape[1] / 2, shape[0] / 2), size, tilt)


def direction(tilt):
    """The way up of a face: x and y."""
    return np.array([np.sin(np.radians(tilt)), -np.cos(np.radians(tilt))])


def landmarks_at(centre, size, tilt):
    """Five landmarks [5, 2]."""
    cosine, sine = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    upright = (TEMPLATES["simswap-frontal"][0] - (0.5, 0.6)) * size
    return upright @ np.array([[cosine, sine], [-sine, cosine]]) + centre


class Upright:
    """Finds the faces of `draw_face`, the surer the more upright they are; landmarks follow a tilt but a little.

    Attributes:
      blind: degrees from upright beyond which it finds none.
      unsure: it is about as sure of faces in every direction.
    """

    side = 1280

    def __init__(self, blind=181.0, unsure=False):
        self.blind, self.unsure, self.glances = blind, unsure, 0

    def detect(self, photo):
        from simswap_jax.faces.detection import find_all

        return find_all(self, photo)

    def glance(self, picture):
        self.glances += 1
        return self._find(picture)

    def look(self, photo):
        return self._find(photo)

    def _find(self, photo):
        # One circle for each face, whatever is painted on it.
        _, _, boxes, centres = cv2.connectedComponentsWithStats((photo.max(axis=2) > 130).astype(np.uint8))
        found = []
        blue = photo[:, :, 2].astype(int) - photo[:, :, 0] > 60
        for (left, top, width, height, area), centre in list(zip(boxes, centres))[1:]:
            marks = np.argwhere(blue[top : top + height, left : left + width])
            if area < 60 or not len(marks) or abs(width - height) > 0.2 * width:
                continue
            up = marks.mean(axis=0)[::-1] + np.array([left, top]) - centre
            tilt = float(np.degrees(np.arctan2(up[0], -up[1])))
            if abs(tilt) > self.blind:
                continue
            score = 0.9 + 0.004 * abs(tilt) / 180.0 if self.unsure else 0.95 - 0.2 * abs(tilt) / 180.0
            seen = landmarks_at(centre, width, tilt if abs(tilt) < FOLLOWS else 0.0)
            found.append(Face((float(left), float(top), float(width), float(height)), seen, score))
        return sorted(found, key=lambda face: -face.score)
