"""``python -m simswap_jax VERB …``: the same as ``simswap-jax VERB …``."""

from simswap_jax.cli.main import main

raise SystemExit(main())
