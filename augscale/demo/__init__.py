"""Procedural color fundus photographs with graded lesions, for trying augscale without any data.

`synthetic_records` lists the photographs of a collection, and `render` draws one of them from its name. This package
does not import `augscale.data`, which turns the list into image records.
"""

from augscale.demo.patients import SyntheticRecord, synthetic_records
from augscale.demo.render import RENDERER, camera_of, landmarks_of, lesions_of, render

__all__ = [
    "RENDERER",
    "SyntheticRecord",
    "camera_of",
    "landmarks_of",
    "lesions_of",
    "render",
    "synthetic_records",
]
