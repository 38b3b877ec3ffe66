"""Configurations of networks go through JSON unchanged."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simswap_jax.models import GeneratorConfig
from simswap_jax.models.discriminator import DiscriminatorConfig
from simswap_jax.models.identity import IdentityConfig
from tests.support.properties import few

widths = st.lists(st.integers(1, 1024), min_size=2, max_size=6).map(tuple)
dtypes = st.sampled_from(["float32", "bfloat16"])
generators = st.builds(
    GeneratorConfig,
    widths=widths,
    blocks=st.integers(1, 12),
    identity_size=st.integers(1, 1024),
    dtype=dtypes,
    remat=st.booleans(),
)
discriminators = st.builds(
    DiscriminatorConfig, widths=widths, tail=st.integers(1, 512), scales=st.integers(1, 4), dtype=dtypes
)
shapes = st.integers(1, 4).flatmap(
    lambda stages: st.tuples(*[st.lists(st.integers(1, 9), min_size=stages, max_size=stages)] * 2)
)
identities = st.builds(
    lambda shape, side, embedding, se, dtype: IdentityConfig(
        layers=shape[0], widths=shape[1], size=(side, side), frame=(side, side), embedding=embedding, se=se, dtype=dtype
    ),
    shapes,
    st.integers(16, 224),
    st.integers(1, 1024),
    st.booleans(),
    dtypes,
)


@few
@given(st.one_of(generators, discriminators, identities))
def test_a_configuration_goes_through_json(config):
    again = type(config).from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert hash(again) == hash(config)


@few
@given(st.one_of(generators, discriminators, identities), st.text("abcxyz_", min_size=1, max_size=9))
def test_an_unknown_field_is_an_error(config, name):
    fields = config.to_dict()
    if name not in fields:
        with pytest.raises(ValueError, match="has no field"):
            type(config).from_dict({**fields, name: 1})
