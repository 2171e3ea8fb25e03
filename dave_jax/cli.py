"""The command line: `dave-jax explain`, `app`, `batch`, `report`, `study`, `evaluate`, `export`, `models`, `calibrate`, `probe`.

Exit codes: 0; 1 when some photographs could not be read and the others are done; 2 for bad usage or input, with one line on standard error;
130 when interrupted. JAX is imported when a command runs (`dave_jax.commands`, `dave_jax.evaluate`), not to print help.
"""

import importlib
import io
import os
import sys
from collections.abc import Sequence

from dave_jax.arguments.parser import parser
from dave_jax.compiled import keep_compiled


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: the arguments; default those of the process.

    Example:
        >>> main(["models", "--filter", "deit3_base*_224.fb_in1k"])
        deit3_base_patch16_224.fb_in1k  noise_alpha 0.9, the authors' preset
        0
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may hold what the terminal cannot show
    try:
        arguments = parser().parse_args(argv)
        with keep_compiled(not getattr(arguments, "no_cache", False)):
            code = getattr(importlib.import_module(f"dave_jax.{arguments.module}"), arguments.command)(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return fail("interrupted", 130)
    except BrokenPipeError:  # `dave-jax models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ModuleNotFoundError) as error:
        return fail(error, 2)
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return fail("The device's memory does not suffice. Compute fewer samples at once: a smaller --chunk.", 2)


def fail(error: object, code: int) -> int:
    """Print an error as one line on standard error; returns the exit code."""
    print("dave-jax: error:", " ".join(str(error).split()), file=sys.stderr)
    return code
