"""`kinds`: of input that `fuzz.py` breaks."""

from collections.abc import Callable
from pathlib import Path

from fuzz_cases import Kind
from fuzz_configs import CONFIGS, check_config, config_cases
from fuzz_data import archive_cases, archives, check_archive, check_table, table_cases
from fuzz_models import safetensors_kind
from fuzz_photographs import check_photo, photo_cases, photographs


def kinds(names: list[str], folder: Path) -> dict[str, Kind]:
    """Those asked for; the models of some are written to a folder first."""
    makers: dict[str, Callable[[], Kind]] = {
        "photographs": lambda: Kind(photo_cases(photographs()), check_photo),
        "tables": lambda: Kind(table_cases(), check_table),
        "archives": lambda: Kind(archive_cases(archives()), check_archive),
        "safetensors": lambda: safetensors_kind(folder),
        "config": lambda: Kind(config_cases(sorted(CONFIGS)), check_config),
    }
    return {name: makers[name]() for name in names}
