"""The wheel holds every module and template, and works where the checkout is not."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow

# Run by the environment's own Python: import every module, and load every template.
PROGRAM = """
import importlib, pathlib, pkgutil, sys
import dvae_tf
from dvae_tf import templating

root = pathlib.Path(dvae_tf.__file__).parent
assert root.is_relative_to(sys.prefix), root
for module in pkgutil.walk_packages([str(root)], "dvae_tf."):
    importlib.import_module(module.name)
for package in ("dvae_tf.evaluation", "dvae_tf.serving"):
    environment = templating.environment(package, autoescape=True)
    for name in environment.list_templates():
        environment.loader.get_source(environment, name)
    assert environment.list_templates(), package
print(len(list(root.rglob("*.py"))))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    source = tmp_path_factory.mktemp("source") / "dvae_tf"
    files = subprocess.run(
        ["git", "ls-files", "-z", "dvae_tf", "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, files):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*words, "--wheel-dir", str(source.parent), str(source)], check=True)
    (found,) = source.parent.glob("*.whl")
    return found


def test_holds_what_is_in_the_repository(wheel):
    tracked = subprocess.run(
        ["git", "ls-files", "dvae_tf"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == set(tracked)


def test_works_in_an_environment_of_its_own(wheel, tmp_path):
    home = tmp_path / "environment"
    venv.create(home, with_pip=False)
    (site,) = home.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # What it depends on comes from this environment; the checkout is on no path.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    done = subprocess.run(
        [home / "bin" / "python", "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 80
