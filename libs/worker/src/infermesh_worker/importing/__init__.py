"""Changes the worker's models folder over the network: imports models by the command `infermesh`, and removes them."""
