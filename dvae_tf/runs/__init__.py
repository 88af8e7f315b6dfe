"""Training runs, from a user's options to a directory with a trained model.

::

    command_line, presets -> options -> defaults -> configuration     defining a run
    building -> training, resuming, warm_start, callbacks -> outcome  running it
    directory: lock, config_file, history, checkpoints, model_file    its files

Only `directory.RunDirectory` reads and writes the files of a run. `workers` distributes training
over devices and processes. `diagnosis` finds the step at which training diverged.
"""
