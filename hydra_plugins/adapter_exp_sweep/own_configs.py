"""Files of ``conf/hydra`` stand in for plugins' configurations of the same name."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.plugins.search_path_plugin import SearchPathPlugin


class OwnConfigs(SearchPathPlugin):
    """Lets ``hydra/launcher=joblib`` mean ``conf/hydra/launcher/joblib.yaml``.

    Hydra takes a file before a plugin's configuration of the same name, but checks it against that one's fields, and
    refuses every other key. So these are removed from the store, of this program only: the plugin is found by each
    Hydra program of the environment. Hydra asks plugins of this type after it has read all others and before it
    composes.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Remove what the files below the main folder stand in for; the search path itself stays as it is."""
        from adapter_exp.files import conf_folder

        conf = conf_folder()
        elements = search_path.get_path()
        mains = {element.path.removeprefix("file://") for element in elements if element.provider == "main"}
        if str(conf) not in mains:
            return
        for file in (conf / "hydra").rglob("*.yaml"):
            store = ConfigStore.instance().repo
            for part in file.relative_to(conf).parent.parts:
                store = store.get(part, {})
            store.pop(file.name, None)
