"""What pyproject.toml cannot say: the packages that are found, and besides them `configs`, which stands elsewhere."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["simswap_jax", "simswap_jax.*"]), "simswap_jax.configs"])
