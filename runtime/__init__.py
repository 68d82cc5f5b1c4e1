"""What runs: objectives as modules of torch, their backends, the command line, and training.

| modules | what they do |
|---|---|
| `load` | `lossc.load` and `lossc.loads`: from text to an `Objective` |
| `objective`, `running` | the module: calling it, saving it, what moves on at each step |
| `inputs`, `layouts`, `arguments`, `forms`, `messages` | what a call is given: checked, converted, refused with a message |
| `variants`, `assemble`, `result` | the program of one kind of call; from its outputs to a `Result` |
| `linear` | `lossc.Linear` and `lossc.Pairs`, which stand for matrices that are never formed |
| `parameters`, `clock`, `draws` | values of a run: parameters, the step, random tensors |
| `states`, `touched`, `constraints` | states and multipliers, also of training examples |
| `functions`, `externs` | functions of the caller: models, and `extern` |
| `examples`, `display`, `plot`, `bench` | example tensors, equations in a notebook, pictures, measurements |
| `standalone`, `standalone_run`, `standalone_c` | `lossc compile`: modules that need torch alone |
| `template`, `template_run`, `template_c` | the fixed halves of such modules |
| `operations` | the torch functions that emitted programs call |
| `backends` | how programs are executed |
| `table_interpreter` | values and gradients from a statistic table, one statistic at a time: an oracle for tests |
| `training`, `cli` | `lossc train` and the other commands |
| `files`, `tracing` | reading and writing files; what `torch.compile` is told |
"""
