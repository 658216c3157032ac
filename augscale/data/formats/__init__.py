"""Reading of image files: one module for each family of formats, and `reading` for any file."""
