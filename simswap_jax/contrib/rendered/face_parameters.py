"""What the parameters of a rendered face mean, and how people and pictures are sampled.

A face is a *person* (what a swap takes from the source) and *attributes* (what it keeps of the target): two flat
vectors whose dimensions are named by `PERSON` and `ATTRIBUTES`.
"""

import numpy as np

# A person: sliders in [0, 1]. Those that end in `_amount` are 0 where the person has no such thing.
PERSON: tuple[str, ...] = (
    "skin_tone",
    "skin_hue",
    "blush_amount",
    "freckles_amount",
    "face_width",
    "face_length",
    "jaw_width",
    "ear_size",
    "eye_distance",
    "eye_size",
    "eye_roundness",
    "eye_tilt",
    "iris_colour",
    "brow_thickness",
    "brow_height",
    "brow_arch",
    "brow_tilt",
    "brow_colour",
    "nose_width",
    "nose_length",
    "mouth_width",
    "mouth_height",
    "lip_fullness",
    "lip_colour",
    "hair_colour",
    "hair_volume",
    "hairline",
    "hair_slant",
    "hair_sides",
    "hair_length_amount",
    "hair_wave",
    "beard_amount",
    "moustache_amount",
    "glasses_amount",
    "glasses_roundness",
    "glasses_colour",
    "mole_amount",
    "mole_x",
    "mole_y",
)

# Attributes: degrees for the pose (yaw > 0 faces the picture's right, pitch > 0 up, roll > 0 clockwise), picture
# half-sizes for the shift, RGB in [0, 1] for colours, otherwise fractions.
# Left and right are the picture's.
ATTRIBUTES: tuple[str, ...] = (
    "yaw",
    "pitch",
    "roll",
    "shift_x",
    "shift_y",
    "scale",
    "mouth_open",
    "smile",
    "mouth_skew",
    "brow_raise_left",
    "brow_raise_right",
    "eye_close_left",
    "eye_close_right",
    "gaze_x",
    "gaze_y",
    "light_x",
    "light_y",
    "light_strength",
    "light_warmth",
    "exposure",
    "background_red",
    "background_green",
    "background_blue",
    "background_red_2",
    "background_green_2",
    "background_blue_2",
    "pattern_angle",
    "pattern_frequency",
    "pattern_phase",
    "pattern_sharpness",
    "clothes_red",
    "clothes_green",
    "clothes_blue",
    "collar",
)

PERSON_SIZE = len(PERSON)
ATTRIBUTE_SIZE = len(ATTRIBUTES)

# How often a person has what not everybody has; the rest of the slider is then uniform in (0, 1].
HOW_OFTEN = {
    "blush_amount": 0.2,
    "freckles_amount": 0.12,
    "hair_length_amount": 0.10,
    "beard_amount": 0.06,
    "moustache_amount": 0.06,
    "glasses_amount": 0.05,
    "mole_amount": 0.15,
}

# Uniform between these; see `sample_attributes` for what is not.
_RANGES = {
    "yaw": (-24, 24),
    "pitch": (-15, 15),
    "roll": (-10, 10),
    "shift_x": (-0.05, 0.05),
    "shift_y": (-0.05, 0.05),
    "scale": (1.16, 1.30),
    "mouth_open": (-0.6, 0.7),
    "smile": (-0.6, 1),
    "mouth_skew": (-1, 1),
    "brow_raise_left": (-0.7, 1),
    "brow_raise_right": (-0.7, 1),
    "eye_close_left": (-0.8, 0.8),
    "eye_close_right": (-0.8, 0.8),
    "gaze_x": (-1, 1),
    "gaze_y": (-1, 1),
    "light_x": (-0.7, 0.7),
    "light_y": (-0.6, 0.2),
    "light_strength": (0.10, 0.40),
    "light_warmth": (-0.6, 0.6),
    "exposure": (0.92, 1.05),
    "background_red": (0.25, 0.85),
    "background_green": (0.25, 0.85),
    "background_blue": (0.25, 0.85),
    "background_red_2": (-0.25, 0.25),
    "background_green_2": (-0.25, 0.25),
    "background_blue_2": (-0.25, 0.25),
    "pattern_angle": (0, np.pi),
    "pattern_frequency": (0.8, 7),
    "pattern_phase": (0, 2 * np.pi),
    "pattern_sharpness": (0.4, 3),
    "clothes_red": (0.1, 0.9),
    "clothes_green": (0.1, 0.9),
    "clothes_blue": (0.1, 0.9),
    "collar": (0, 1),
}


def sample_people(seed: int, count: int) -> np.ndarray:
    """Draw people: float32 [count, PERSON_SIZE], sliders in [0, 1].

    Fixed by `seed`; a larger count only adds people. Different seeds share nobody.
    """
    sliders = np.random.default_rng([seed, 1]).random((count, PERSON_SIZE)).astype(np.float32)
    for name, share in HOW_OFTEN.items():
        column = sliders[:, PERSON.index(name)]
        column[:] = np.maximum(column - (1 - share), 0) / share
    return sliders


def sample_attributes(seed: int, count: int) -> np.ndarray:
    """Draw pictures' attributes: float32 [count, ATTRIBUTE_SIZE] in the units of `ATTRIBUTES`.

    Fixed by `seed`; a larger count only adds pictures.
    """
    low, high = np.array([_RANGES[name] for name in ATTRIBUTES], np.float32).T
    values = low + (high - low) * np.random.default_rng([seed, 2]).random((count, ATTRIBUTE_SIZE)).astype(np.float32)
    column = {name: values[:, index] for index, name in enumerate(ATTRIBUTES)}
    # Many mouths are closed and most eyes open; both eyes and both brows mostly move together.
    column["mouth_open"][:] = np.maximum(column["mouth_open"], 0)
    for kind in ("brow_raise", "eye_close"):
        left, right = column[f"{kind}_left"], column[f"{kind}_right"]
        right[:] = left + 0.25 * (right - left)
    for side in ("left", "right"):
        column[f"eye_close_{side}"][:] = np.maximum(column[f"eye_close_{side}"], 0)
    # The pattern's second colour lies near the first.
    for channel in ("red", "green", "blue"):
        second = column[f"background_{channel}_2"]
        second[:] = np.clip(second + column[f"background_{channel}"], 0, 1)
    return values


def pose(attributes: np.ndarray) -> np.ndarray:
    """Yaw (> 0 faces the picture's right), pitch (> 0 up), roll (> 0 clockwise) in degrees: [B, A] → [B, 3]."""
    return np.asarray(attributes)[:, [ATTRIBUTES.index(name) for name in ("yaw", "pitch", "roll")]]
