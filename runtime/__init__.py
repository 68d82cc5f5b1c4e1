"""What runs: the Objective module, its backends, the command line and training."""
