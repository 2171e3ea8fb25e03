"""Without us: the program of an explanation as a file that JAX alone runs."""
