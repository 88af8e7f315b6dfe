"""The paper's questions, asked again.

`trials` declares what is trained, `run` trains and measures it, `archive` keeps the numbers in
results/, and `pages` makes docs/results.md and the tables of docs/bounds.md from them.
"""
