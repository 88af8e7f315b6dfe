"""One module for each contender; each has `run(variant, workload, images, num_epochs, seed)`.

It trains one epoch that compiles and warms up, times the others, and returns
`{"seconds": [of each timed epoch], "parameters": number, "loss": of the last epoch}`.
"""
