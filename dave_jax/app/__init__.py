"""The page on which a photograph is explained: `dave-jax app`."""
