"""Views of images: scales (distributions), draw (parameters), views (all steps of a batch) and its single steps.

`resample` cuts and resizes, `photometric` changes colors and blurs, `medical` adds the transforms of `weak+med`,
`compiled` does the color steps on a GPU, and `export` writes scales for other libraries.
"""
