"""Procedural colour fundus photographs with graded lesions, for trying augscale without any data.

`synthetic_records` lists the photographs of a collection, `render` draws one of them from its name.
"""

from augscale.demo.patients import synthetic_records
from augscale.demo.render import camera_of, landmarks_of, lesions_of, render

__all__ = ["camera_of", "landmarks_of", "lesions_of", "render", "synthetic_records"]
