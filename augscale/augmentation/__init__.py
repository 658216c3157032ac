"""Makes views of images.

`scales` holds the distributions, `draw` draws parameters from them, and `views` applies these to a batch: `resample`
crops and resizes, `photometric` changes colors and blurs, `medical` adds the transforms of `weak+med`, and `compiled`
does the color steps on a GPU. `export_scales` writes scales for other libraries.
"""
