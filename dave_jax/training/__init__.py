"""Training with optax: the small default model."""
