"""The wheel carries the program: ../run.sh builds it with Go and gcc, for this platform alone."""

import pathlib
import shutil
import subprocess

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = pathlib.Path(__file__).resolve().parent.parent


class BuildProgram(build_py):
    def run(self) -> None:
        super().run()
        script = ROOT / "run.sh"
        if not script.exists():
            raise SystemExit(f"{script} is missing: install from a clone of the repository, by  pip install ./python")
        subprocess.run([script, "--version"], check=True)
        folder = pathlib.Path(self.build_lib, "clip_inspector", "bin")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / "bin" / "clip-inspector", folder)


class PlatformWheel(bdist_wheel):
    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]  # any Python 3, this platform


class WithProgram(Distribution):
    def has_ext_modules(self) -> bool:
        return True


setup(distclass=WithProgram, cmdclass={"build_py": BuildProgram, "bdist_wheel": PlatformWheel})
