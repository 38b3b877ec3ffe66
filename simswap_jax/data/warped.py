"""Warped pictures of known people: every sample is a person's picture, bent, and the same picture as it was."""

from collections.abc import Sequence

import cv2
import grain
import numpy as np

from simswap_jax.data.dataset import People
from simswap_jax.data.loader import ENDLESS, Batch, Batches, listing, mirrored
from simswap_jax.data.pairs import below, check_shared_evenly, random_words

TURN, SCALE, SHIFT = 10.0, 0.05, 0.05  # degrees, share of the size, share of the side: chosen here
MESH = 5  # points along a side


def moved(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A picture turned, scaled and shifted a little, its border replicated: uint8 [S,S,3] → the same."""
    side = picture.shape[0]
    turn, scale, across, down = random.uniform(-1.0, 1.0, 4)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), TURN * turn, 1.0 + SCALE * scale)
    matrix[:, 2] += SHIFT * side * across, SHIFT * side * down
    return cv2.warpAffine(picture, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)


def warped(picture: np.ndarray, random: np.random.Generator, spread: float) -> np.ndarray:
    """A picture bent by a mesh of 5×5 points, each displaced by N(0, spread·side) pixels: uint8 [S,S,3] → the same."""
    side = picture.shape[0]
    mesh = random.normal(0.0, spread * side, (MESH, MESH, 2)).astype(np.float32)
    grid = cv2.resize(mesh, (side, side), interpolation=cv2.INTER_LINEAR)
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    return cv2.remap(
        picture, columns + grid[..., 0], rows + grid[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def warped_batches(  # nine parameters: each is one number that its caller has at hand
    people: People,
    chosen: Sequence[int],
    size: int,
    batch_size: int,
    seed: int,
    spread: float,
    flip: bool = True,
    *,
    host_index: int = 0,
    host_count: int = 1,
    threads: int = 2,
) -> Batches:
    """Batches in which sample number i is of person i mod K of those chosen.

    Args:
      people: the data set.
      chosen: of whom, as indices into its names.
      size: side of the pictures, in pixels.
      batch_size: samples a step over all hosts; a multiple of K on each of them.
      seed: another seed, other pictures and warps.
      spread: how far the mesh is displaced, as a share of the side; 0 warps nothing.
      flip: mirror half of the pictures, each by chance.
      host_index, host_count: which part of each batch this host sees.
      threads: how many batches are made at once.

    Returns:
      Endless {"input": uint8 [B,size,size,3], warped; "target": the same pictures before; "person": int32 [B], 0 to
      K − 1}, B being batch_size / host_count.

    Raises:
      UserError: the hosts cannot share the batch evenly.
    """
    check_shared_evenly(batch_size, host_index, host_count)
    local_size = batch_size // host_count
    of_each = [np.flatnonzero(people.person == one) for one in chosen]

    def sample(local: int) -> Batch:
        step, slot = divmod(int(local), local_size)
        index, person = step * batch_size + host_index * local_size + slot, slot % len(chosen)
        draw, coin, own = random_words(seed, index, 3)
        number = int(of_each[person][below(draw, len(of_each[person]))])
        picture = mirrored(people.picture(number, size), flip and coin % 2 == 1)
        random = np.random.Generator(np.random.Philox(key=own))
        answer = moved(np.ascontiguousarray(picture), random)
        return {"input": warped(answer, random, spread), "target": answer, "person": np.int32(person)}

    origin = {
        "list of pictures": listing(people),
        "seed": seed,
        "batch size": batch_size,
        "people": [people.names[one] for one in chosen],
        "warp": spread,
        "flip": flip,
    }
    return Batches(grain.MapDataset.range(ENDLESS).map(sample), local_size, threads, origin)
