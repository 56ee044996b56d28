"""Tables of experiments: their schema, their import, their tensors, their splits, and a simulated laboratory."""
