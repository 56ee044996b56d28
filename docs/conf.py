"""Sphinx configuration."""

import os
from importlib.metadata import version as version_of

project = "pyro-hcvae"
author = "the pyro-hcvae authors"
project_copyright = author
release = version = version_of("pyro-hcvae")

# tqdm tells each notebook that it has no progress bar for it.
os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

# Every tutorial is run when the pages are built; an error in one of them is an error of the build.
nb_execution_mode = "force"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_in_temp = True
nb_merge_streams = True

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
