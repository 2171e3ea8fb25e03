"""From other libraries' checkpoints to dave_jax parameters: tables, checked on both sides, without torch."""
