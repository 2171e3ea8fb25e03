"""What the commands take, and their help. Nothing here imports JAX, so that help is quick."""
