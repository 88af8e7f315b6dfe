"""One module for each contender; each has `run(variant, workload, images, num_epochs, seed)`.

`run` trains one epoch to compile and warm up, times the other epochs, and returns
`{"seconds": [of each timed epoch], "parameters": number, "loss": of the last epoch}`.
"""
