"""What an objective means: names, kinds and axes, the core, its simplification, the plan and the emitted program."""
