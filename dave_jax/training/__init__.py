"""Training with optax: linear probes, and the small default model."""
