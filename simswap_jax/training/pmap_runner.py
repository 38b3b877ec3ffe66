"""The same step through ``jax.pmap``: one copy a device, for those who know it. JAX only maintains pmap."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from simswap_jax.errors import UserError
from simswap_jax.models.ops.platform import traced_for
from simswap_jax.training.method import Method
from simswap_jax.training.runner import Runner, watch_compilations
from simswap_jax.training.sharding import DATA, make_mesh, replicate


class PmapRunner(Runner):
    """Every device has the state whole and its own part of the batch.

    The method must have been built with ``runner.axis_name(config)``. The state that goes in and comes out is one,
    unstacked.

    Raises:
      UserError: as ``make_mesh``, or there are several processes.
    """

    def __init__(self, method: Method, batch_size: int, devices: int = 0, accumulate: int = 1) -> None:
        if jax.process_count() > 1:
            raise UserError(
                f"config.parallel is 'pmap', which serves the devices of one process, but {jax.process_count()} "
                "train together; set it to 'jit'.",
                "pmap-of-several-processes",
            )
        # pmap makes a mesh of its own; arrays that lie on an equal one need not be moved, nor the step compiled twice.
        mesh = Mesh(make_mesh(batch_size, devices, accumulate=accumulate).devices.reshape(-1), (DATA,))
        self.compiled = 0
        watch_compilations()
        self.replicated = self._of_state = NamedSharding(mesh, PartitionSpec())
        self.split = NamedSharding(mesh, PartitionSpec(DATA))
        self.frozen = replicate(method.frozen, self.replicated)
        self._count = mesh.size
        self._init = jax.jit(method.init, out_shardings=self.replicated)
        self._step = jax.pmap(
            traced_for(mesh.devices.flat[0].platform, method.step),
            axis_name=DATA,
            in_axes=(None, 0, None),
            out_axes=None,
            devices=list(mesh.devices.flat),
            donate_argnums=0,
        )

    def shard_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """A batch [B, …] as one part a device, [devices, B/devices, …]."""
        return super().shard_batch(
            {name: array.reshape(self._count, -1, *array.shape[1:]) for name, array in batch.items()}
        )

    def local_batch(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """What ``shard_batch`` was given, [B, …]."""
        return {name: array.reshape(-1, *array.shape[2:]) for name, array in super().local_batch(batch).items()}
