"""`python -m dave_jax`: the command line of `dave_jax.cli`."""

import sys

from dave_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
