"""The build backend that pyproject.toml names: setuptools', with the torch that is installed already.

pip builds in an environment of its own. torch would be fetched into it, some 3 GB, in its newest version; the extension
would not load with another one that is installed. So the build uses the torch of the environment that it installs
into, and fetches one only where there is none.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from dependencies import BUILD, TORCH, is_installed, target_folders
from setuptools import build_meta


def build_requirements() -> list[str]:
    """What pip is to put into the environment of the build."""
    return [*BUILD, *([] if is_installed("torch", target_folders()) else [TORCH])]


def show_installed_packages() -> None:
    """Let the build import what is installed, after its own packages."""
    folders = target_folders()
    if is_installed("torch", folders):
        sys.path += [folder for folder in folders if folder not in sys.path]


# The names and arguments are PEP 517's and PEP 660's


def get_requires_for_build_wheel(config_settings: dict | None = None) -> list[str]:
    return build_requirements()


def get_requires_for_build_editable(config_settings: dict | None = None) -> list[str]:
    return build_requirements()


def get_requires_for_build_sdist(config_settings: dict | None = None) -> list[str]:
    return build_requirements()


def prepare_metadata_for_build_wheel(directory: str, config_settings: dict | None = None) -> str:
    show_installed_packages()
    return build_meta.prepare_metadata_for_build_wheel(directory, config_settings)


def prepare_metadata_for_build_editable(directory: str, config_settings: dict | None = None) -> str:
    show_installed_packages()
    return build_meta.prepare_metadata_for_build_editable(directory, config_settings)


def build_wheel(directory: str, config_settings: dict | None = None, metadata_directory: str | None = None) -> str:
    show_installed_packages()
    return build_meta.build_wheel(directory, config_settings, metadata_directory)


def build_editable(directory: str, config_settings: dict | None = None, metadata_directory: str | None = None) -> str:
    show_installed_packages()
    return build_meta.build_editable(directory, config_settings, metadata_directory)


def build_sdist(directory: str, config_settings: dict | None = None) -> str:
    show_installed_packages()
    return build_meta.build_sdist(directory, config_settings)
