"""``python -m pyro_hcvae``: the command line."""

from pyro_hcvae.cli.main import run

run()
