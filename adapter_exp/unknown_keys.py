"""All faults of a command line with unknown keys: Hydra alone stops at the first one."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from adapter_exp.config import parse_config
from adapter_exp.errors import UserError
from adapter_exp.files import conf_folder


def all_faults(arguments: Sequence[str]) -> list[str] | None:
    """Compose once more with every key allowed, and let the schema name all faults, with the nearest names.

    Returns:
        An empty list when the schema finds no fault: it knows keys that the chosen files leave out. None when it
        cannot tell: sweeps, and other mistakes that cannot be composed.
    """
    written = [
        argument for argument in arguments if not argument.startswith("-") and ("=" in argument or "~" in argument)
    ]
    overrides = OverridesParser.create().parse_overrides(written)
    # compose() sets its own global state up; the run's is over.
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        loader = GlobalHydra.instance().config_loader()
        groups = set(loader.list_groups(""))
        if any(override.is_sweep_override() for override in overrides):
            return None
        ours = [override for override in overrides if not override.key_or_group.startswith("hydra.")]
        forced = [_forced(override, groups) for override in ours]
        try:
            values = OmegaConf.to_container(compose("config", overrides=forced), resolve=True)
        except (HydraException, OmegaConfBaseException):
            return None
    try:
        parse_config({str(key): value for key, value in values.items()} if isinstance(values, dict) else {})
    except UserError as error:
        return list(error.faults)
    return []


def _forced(override: Override, groups: set[str]) -> str:
    line = override.input_line or ""
    group = override.key_or_group.split("@")[0] in groups
    return line if group or override.type is not OverrideType.CHANGE else f"++{line}"
