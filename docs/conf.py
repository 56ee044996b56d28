"""Sphinx configuration."""

import importlib
import inspect
import os
import re
import shutil
from functools import reduce
from importlib.metadata import version as version_of
from itertools import chain
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import pyro_hcvae
from pyro_hcvae import RecipeDesigner, RecipeSchema, RecipeTable, TrainConfig, VirtualLab

project = "pyro-hcvae"
author = "the pyro-hcvae authors"
project_copyright = author
release = version = version_of("pyro-hcvae")

# For the kernels of the notebooks. tqdm would tell each of them that it has no progress bar for it; matrices are too small here
# for a second thread to be worth waking.
os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
os.environ.setdefault("OMP_NUM_THREADS", "1")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.linkcode"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

# Every tutorial is run when the pages are built; an error in one of them is an error of the build. The limit is for what never
# ends: on a busy machine a cell of half a minute may take several.
nb_execution_mode = "force"
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_in_temp = True
nb_merge_streams = True
nb_render_markdown_format = "myst"  # with tables

# A name in backticks is a name of the code.
default_role = "code"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "model_config"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
nitpicky = False

html_theme = "furo"
html_title = f"pyro-hcvae {release}"
html_show_sphinx = False


LONG = (
    "tutorials/first_recipes", "howto/uncertainty", "howto/design", "howto/own_table", "api", "howto/screen", "howto/sweep",
    "tutorials/pyro", "howto/complete", "howto/report", "howto/constraints",
)  # fmt: skip
"""Pages that take ten seconds or more to run or to read, longest first."""


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """Where in the repository an object is defined; None for what has no lines of its own, such as the field of a class."""
    try:
        found = reduce(getattr, info["fullname"].split("."), importlib.import_module(info["module"]))
        # The function of a property, or of a cached one.
        found = inspect.unwrap(getattr(found, "fget", None) or getattr(found, "func", found))
        path = Path(inspect.getsourcefile(found)).relative_to(Path(pyro_hcvae.__file__).parents[1])
        line = inspect.findsource(found)[1] + 1
    except (AttributeError, OSError, TypeError, ValueError):
        return None
    return f"https://github.com/pyro-hcvae/pyro-hcvae/blob/main/{path.as_posix()}#L{line}"


def train(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Make the run folder that pages load, so that each need not train a model of its own; they find it by the variable RUN."""
    if docnames:
        folder = Path(app.doctreedir) / "run"
        shutil.rmtree(folder, ignore_errors=True)  # of a build before
        table = RecipeTable.from_frame(VirtualLab().experiments(recipes=100, seed=0), RecipeSchema.load("drm"))
        settings = TrainConfig(
            members=2, steps=150, compile="never"
        )  # too short for anything but pages that build quickly
        RecipeDesigner(table.schema, train=settings).fit(table, out=folder)
        os.environ["RUN"] = str(folder)


def spread(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Deal the pages out to the processes of `-j`, the long ones first: each would get neighbours in the alphabet."""
    order = [*(x for x in LONG if x in docnames), *(x for x in docnames if x not in LONG)]
    docnames[:] = chain.from_iterable(order[i :: app.parallel] for i in range(app.parallel))


def setup(app: Sphinx) -> None:
    """Train, spread the pages, and warn of modules that the API page leaves out; the command line describes itself."""
    app.connect("env-before-read-docs", train)
    app.connect("env-before-read-docs", spread)
    listed = set(re.findall(r"automodule:: (\S+)", (Path(app.srcdir) / "api.md").read_text(encoding="utf-8")))
    for path in sorted((Path(app.srcdir).parent / "pyro_hcvae").rglob("*.py")):
        name = ".".join(path.relative_to(Path(app.srcdir).parent).with_suffix("").parts)
        if not (path.stem.startswith("__") or name.startswith("pyro_hcvae.cli.") or name in listed):
            logging.getLogger(__name__).warning("docs/api.md does not list %s", name)
