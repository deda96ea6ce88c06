"""What pyproject.toml cannot say: a wheel has conf/ inside the package; an editable install reads the repository's."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CONF = Path(__file__).resolve().parent / "conf"


class BuildWithConf(build_py):
    """Copies conf/ to metashot/conf, where `metashot.configuration` looks first."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            # What an earlier build left there may have been removed since.
            shutil.rmtree(self._packaged, ignore_errors=True)
            shutil.copytree(CONF, self._packaged)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        own = [] if self.editable_mode else [str(self._packaged / path.relative_to(CONF)) for path in CONF.rglob("*.yaml")]
        return [*super().get_outputs(include_bytecode), *own]

    @property
    def _packaged(self) -> Path:
        return Path(self.build_lib) / "metashot" / "conf"


setup(cmdclass={"build_py": BuildWithConf})
