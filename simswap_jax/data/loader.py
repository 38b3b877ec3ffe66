"""From pairs to batches: a grain pipeline that decodes in threads, knows its position, and hands batches to the
device ahead of time.

Every sample is a pure function of its number, so a position is one number, and a restored one continues at exactly
the next batch.
"""

import hashlib
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol, Self

import grain
import numpy as np

from simswap_jax.data.dataset import People
from simswap_jax.data.pairs import Pairing, below, check_shared_evenly, random_words
from simswap_jax.errors import UserError
from simswap_jax.io.atomic import arrays_sha256

Batch = dict[str, Any]  # arrays by name
State = dict[str, Any]  # JSON-able

ENDLESS = sys.maxsize // 2  # samples


class Positioned(Protocol):
    """An iterator whose position can be saved and restored."""

    def __next__(self) -> Any: ...

    def get_state(self) -> State:
        """The position, JSON-able."""

    def set_state(self, state: State) -> None:
        """Go to a saved position."""


class Batches(Iterator[Batch]):
    """Endless batches. After `set_state` with what `get_state` gave after n batches, batch number n is next."""

    def __init__(
        self,
        samples: grain.MapDataset,
        batch_size: int,
        threads: int,
        origin: State,
        source: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        """Args:
        samples: the samples, one a number.
        batch_size: samples to a batch.
        threads: how many batches are made at once; 0 makes each when it is asked for.
        origin: what the position belongs to: a state with another origin is refused.
        source: gives the source's picture of a sample's number, where the samples do not hold it.
        """
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
        self._iterator = iter(samples.batch(batch_size, drop_remainder=True).to_iter_dataset(options))
        self._batch_size, self._origin, self._source = batch_size, origin, source

    def __next__(self) -> Batch:
        return next(self._iterator)

    def get_state(self) -> State:
        """The position, JSON-able."""
        return {"position": self._iterator.get_state(), "origin": self._origin}

    def set_state(self, state: State) -> None:
        """Go to a saved position.

        Raises:
          UserError: when it was saved with other data, another seed or another batch size.
        """
        for name in {**state["origin"], **self._origin}:
            former, value = state["origin"].get(name), self._origin.get(name)
            if former != value:
                raise UserError(
                    f"The saved position of the data belongs to another run: its {name} was {former} "
                    f"and is now {value}; restore what it was, or start in a new folder.",
                    "position-of-another-run",
                )
        self._iterator.set_state(state["position"])

    def sources(self, count: int) -> np.ndarray | None:
        """The source pictures of the next batch's first samples, which the batch itself does not hold.

        Args:
          count: how many, at most a batch's.

        Returns:
          uint8 [n,H,W,3]; None where the batch holds them, or has no sources.
        """
        if self._source is None:
            return None
        first = self._iterator.get_state()["next_index"] * self._batch_size
        return np.stack([self._source(first + row) for row in range(min(count, self._batch_size))])


def pair_batches(
    people: People,
    pairing: Pairing,
    size: int,
    source_size: int,
    vectors: np.ndarray | None = None,
    threads: int = 2,
    points: np.ndarray | None = None,
) -> Batches:
    """The training batches of this host.

    Args:
      people: the data set; `pairing` is made from its `person`.
      pairing: which pictures make sample number i.
      size: side of the targets, in pixels.
      source_size: side of the sources.
      vectors: float32 [N,2,D], the identity vectors of every picture and of its mirror (`embeddings.identity_vectors`);
        then the batches hold the sources' vectors instead of the sources, whose pictures `Batches.sources` gives.
      threads: how many batches are made at once; 0 makes each when it is asked for.
      points: float32 [N,2,P,2], the landmarks of every picture and of its mirror (`landmarks.of_people`); then the
        batches hold those of targets and sources, too.

    Returns:
      Endless {"target": uint8 [B,size,size,3], "source": uint8 [B,source_size,source_size,3] or "identity": float32
      [B,D], "same_person": bool [B]}, B being `pairing.local_batch_size`; with ``points`` "target_points" and
      "source_points", float32 [B,P,2].

    Raises:
      ValueError: when pairing, vectors or landmarks belong to another data set. While iterating, UserError naming a
        file that cannot be decoded.
    """
    if len(pairing.person) != len(people):
        raise ValueError(
            f"The pairing is of {len(pairing.person)} pictures, the data of {len(people)}; make it from people.person."
        )
    if vectors is not None and (vectors.ndim != 3 or vectors.shape[:2] != (len(people), 2)):
        raise ValueError(
            f"The identity vectors are {vectors.shape}, the data set needs ({len(people)}, 2, D); compute them for it."
        )
    if points is not None and (points.ndim != 4 or points.shape[:2] != (len(people), 2)):
        raise ValueError(
            f"The landmarks are {points.shape}, the data set needs ({len(people)}, 2, P, 2); find them for it."
        )

    def sample(local: int) -> Batch:
        pair = pairing.pair(pairing.global_index(int(local)))
        made = {
            "target": mirrored(people.picture(pair.target, size), pair.flip_target),
            "same_person": np.bool_(pair.same_person),
        }
        if vectors is None:
            made["source"] = mirrored(people.picture(pair.source, source_size), pair.flip_source)
        else:
            made["identity"] = vectors[pair.source, int(pair.flip_source)]
        if points is not None:
            made["target_points"] = points[pair.target, int(pair.flip_target)]
            made["source_points"] = points[pair.source, int(pair.flip_source)]
        return made

    def source(local: int) -> np.ndarray:
        pair = pairing.pair(pairing.global_index(local))
        return mirrored(people.picture(pair.source, size), pair.flip_source)

    options = pairing.options
    same = "same-person" if options.same == "person" else "same-picture"
    origin = {
        "list of pictures": listing(people),
        "seed": options.seed,
        "batch size": options.batch_size,
        # Checkpoints hold this very sentence.
        "pairing": f"{options.mode}, {options.same_samples} {same}, by pictures, flip {options.flip}",
    }
    if len(pairing.targets) < len(people):
        origin["choice of targets"] = arrays_sha256(pairing.targets)[:16]
    samples, unseen = grain.MapDataset.range(ENDLESS).map(sample), None if vectors is None else source
    return Batches(samples, pairing.local_batch_size, threads, origin, unseen)


def picture_batches(  # eight parameters: each is one number that its two callers have at hand
    people: People,
    batch_size: int,
    size: int,
    seed: int,
    flip: bool = True,
    *,
    host_index: int = 0,
    host_count: int = 1,
    threads: int = 2,
) -> Batches:
    """Single pictures with whose they are, for training an identity network: every picture once an epoch, in an order
    of its own.

    Args:
      people: the data set.
      batch_size: pictures a step over all hosts.
      size: side in pixels.
      seed: another seed, another order.
      flip: mirror a picture with probability ½.
      host_index, host_count: which part of each batch this host sees.
      threads: how many batches are made at once.

    Returns:
      Endless {"image": uint8 [B,size,size,3], "person": int32 [B]}, B being batch_size / host_count. A batch may
      reach into the next epoch.

    Raises:
      UserError: when the hosts cannot share the batch evenly.
    """
    check_shared_evenly(batch_size, host_index, host_count)
    local_size = batch_size // host_count
    shuffled = grain.MapDataset.range(len(people)).seed(seed).shuffle().repeat()

    def sample(local: int) -> Batch:
        step, slot = divmod(int(local), local_size)
        index = step * batch_size + host_index * local_size + slot
        picture = int(shuffled[index])
        turn = flip and bool(below(random_words(seed, index, 1)[0], 2))
        return {"image": mirrored(people.picture(picture, size), turn), "person": people.person[picture]}

    origin = {"list of pictures": listing(people), "seed": seed, "batch size": batch_size, "flip": flip}
    return Batches(grain.MapDataset.range(ENDLESS).map(sample), local_size, threads, origin)


def mirrored(picture: np.ndarray, turn: bool) -> np.ndarray:
    """A picture [H,W,3], left and right exchanged if `turn`."""
    return picture[:, ::-1] if turn else picture


def listing(people: People) -> str:
    """Names the pictures, not their bytes or dates: a data set that was copied elsewhere is the same one."""
    return hashlib.sha256("\n".join(people.files).encode("utf-8", "surrogateescape")).hexdigest()[:16]


class Prefetch(Iterator[Any]):
    """Places batches on the device ahead of time, in a thread. Its state is that of the last batch it handed out, so
    what was made ahead and never used is made again after a restart.

    It stays beside ``grain.experimental.device_put``, whose threads keep batches alive after they are dropped
    (google/grain#1021, open).
    """

    def __init__(self, iterator: Positioned, place: Callable[[Any], Any], depth: int) -> None:
        """Args: as `prefetch`."""
        self._iterator, self._place, self._depth = iterator, place, depth
        self._state = iterator.get_state()
        self._thread: threading.Thread | None = None
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __next__(self) -> Any:
        if self._thread is None:
            if self._depth > 0:
                raise StopIteration
            return self._take()
        item, state, error = self._ready.get()
        if error is not None:
            self.close()
            raise error
        self._state = state
        return item

    def get_state(self) -> State:
        """The position after the last batch handed out."""
        return self._state

    def set_state(self, state: State) -> None:
        """Go to a saved position; what was made ahead is dropped."""
        self.close()
        self._iterator.set_state(state)
        self._state = state
        self._start()

    def close(self) -> None:
        """Stop the thread and drop what was made ahead."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set()
        while thread.is_alive():  # it may be waiting for room
            try:
                self._ready.get(timeout=0.05)
            except queue.Empty:
                continue
        thread.join()

    def _start(self) -> None:
        self._stop = threading.Event()
        self._ready: queue.Queue[tuple[Any, State, BaseException | None]] = queue.Queue(max(self._depth, 1))
        if self._depth > 0:
            arguments = (self._stop, self._ready)
            self._thread = threading.Thread(target=self._work, args=arguments, name="prefetch", daemon=True)
            self._thread.start()

    def _take(self) -> Any:
        item = self._place(next(self._iterator))
        self._state = self._iterator.get_state()
        return item

    def _work(self, stop: threading.Event, ready: "queue.Queue[tuple[Any, State, BaseException | None]]") -> None:
        while not stop.is_set():
            try:
                batch = next(self._iterator)
                state = self._iterator.get_state()
                ready.put((self._place(batch), state, None))
            except BaseException as error:  # handed to whoever asks for the batch, StopIteration too
                ready.put((None, {}, error))
                return


def prefetch(iterator: Positioned, place: Callable[[Any], Any] = lambda batch: batch, depth: int = 2) -> Prefetch:
    """Batches placed ahead of time.

    Args:
      iterator: what `pair_batches` or `picture_batches` returns. From now on it is this one's; do not use it elsewhere.
      place: puts a batch on the device, e.g. ``lambda batch: jax.device_put(batch, sharding)``; called in a thread.
      depth: how many batches wait; 0 uses no thread.

    Returns:
      An iterator with `get_state`, `set_state` and `close`; errors of the iterator and of `place` are raised by
      ``next``.
    """
    return Prefetch(iterator, place, depth)
