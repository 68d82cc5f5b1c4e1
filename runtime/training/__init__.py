"""`lossc train`: from a run file to a trained model, with the Trainer of Transformers.

| modules | what they do |
|---|---|
| `runfile`, `sections`, `feed_sections`, `reading` | the run file: its keys, and every mistake in it |
| `planning`, `objective`, `folder`, `damage` | what will be run: file, options and objective together; the folder of a run |
| `sources`, `rows` | rows of data, from files and from what every installation has |
| `preparation`, `encoding`, `tokenizer`, `sequences`, `examples` | from rows to tensors, and to batches |
| `feeds`, `questions` | the tensors of each setting, and what fills each tensor of an objective |
| `models`, `networks`, `frozen`, `earlier`, `importance` | the network in training; references, averages, teachers |
| `views`, `rollouts`, `sampling`, `rewards`, `fresh` | what is made anew at each step: augmented views, completions, rewards |
| `building`, `session`, `host`, `running`, `work`, `processes` | one run from start to end, also over several processes |
| `journal`, `progress`, `summary`, `curves`, `board`, `checkpoints` | readings, what is shown, pictures, checkpoints |
| `extras` | packages that only some runs need |
"""
