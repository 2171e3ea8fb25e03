"""The packages that only runs over data sets need: the extra `batch`."""

from importlib import import_module
from typing import Any


def need(package: str, install: str = "'dave-jax[batch]'") -> Any:
    """A package that is imported when it is used.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to install it.

    Example:
        >>> need("json").dumps([1])
        '[1]'
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        name = package.partition(".")[0]
        if error.name not in (name, package):  # it is there, and lacks something of its own
            raise
        raise ModuleNotFoundError(f"This needs the package {name}, which is not installed: pip install {install}.", name=name) from error
