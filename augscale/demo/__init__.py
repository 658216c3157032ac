"""Procedural color fundus photographs with graded lesions, for trying augscale without any data.

`synthetic_records` lists the photographs of a collection, `render` draws one of them from its name. This package knows
nothing of `augscale.data`, which makes image records of the list.
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
