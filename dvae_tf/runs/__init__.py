"""Training runs, from what a user asks for to a directory with a trained model.

::

    command_line, presets -> options -> defaults -> configuration     what a run is
    building -> training, resuming, callbacks -> outcome              what it does
    directory: config_file, history, checkpoints                      what it leaves

`directory.RunDirectory` alone reads and writes the files of a run. `workers` shares a training
among devices and processes; `diagnosis` finds the step at which one diverged.
"""
