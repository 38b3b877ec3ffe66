"""`simswap-jax prepare`: from a raw folder of photos to aligned faces, records and identity vectors."""
