"""Denoising users' own pictures: from files of any format and size to files of the same.

::

    inputs      which files, and where their results go
    denoiser    a model's answer for one picture, in tiles that fit the memory
    job         one file after the other: what is done is skipped, what is damaged is named
    record      what is done, so that a second run goes on
    progress    one line, with the time left
    memory      how much there is, and how much a tile takes
"""
