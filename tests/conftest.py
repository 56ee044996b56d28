"""One thread for all tests: their matrices are too small for a second one, which costs much where the machine is busy."""

import torch

torch.set_num_threads(1)
