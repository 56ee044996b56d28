"""Studies: what the package is good for, measured on a laboratory whose truth is known."""
