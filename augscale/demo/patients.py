"""The patients: their traits, their two eyes with a grade each, and the list of their photographs.

Every trait is a function of (seed, patient, eye), so a photograph can be rendered from its name alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from augscale.demo.draws import Draws
from augscale.errors import DataError

EYES = ("left", "right")
NUM_GRADES = 5

# Shares of grades 0-4. APTOS 2019 has 0.49, 0.10, 0.27, 0.05, 0.08; the rare ones are raised so that a few
# hundred photographs hold enough of each.
GRADE_SHARES = (0.40, 0.15, 0.24, 0.11, 0.10)
_GRADE_DIFFERS_P = 0.35
_SECOND_PHOTOGRAPH_P = 0.35

_IMAGE_ID = re.compile(r"synthetic/p(\d{4,})/(left|right)/(\d+)")


@dataclass(frozen=True, kw_only=True)
class PhotographName:
    """The parts of an image id such as "synthetic/p0012/left/0"."""

    patient: int
    eye: str
    photograph: int

    @property
    def image_id(self) -> str:
        """The text that `parse_image_id` reads."""
        return f"synthetic/p{self.patient:04d}/{self.eye}/{self.photograph}"


@dataclass(frozen=True, kw_only=True)
class SyntheticRecord:
    """One photograph of a collection: its id, grade "0" to "4", patient, e.g. "p0012", and eye, "left" or "right"."""

    image_id: str
    label: str
    patient_id: str
    eye: str


@dataclass(frozen=True, kw_only=True)
class PatientTraits:
    """Traits that the two eyes of a patient share.

    pigment: melanin of the fundus, 0 pale to 1 dark. tessellation: how clearly the choroidal vessels show, 0 to 1.
    youth: 1 young (bright reflexes of the nerve fibers) to 0 old. haze: clouding of lens and vitreous, 0 to 1.
    caliber: width of the vessels relative to the mean. tortuosity: SD of the heading of a vessel, radians.
    cup: cup-to-disc ratio. drusen: number of drusen, which say nothing about the grade. clinic: uniform in [0, 1),
    decides the usual camera.
    """

    pigment: float
    tessellation: float
    youth: float
    haze: float
    caliber: float
    tortuosity: float
    cup: float
    drusen: int
    clinic: float


def parse_image_id(image_id: str) -> PhotographName:
    """Reads the name of a synthetic photograph.

    Any whole photograph number is accepted: numbers beyond those of `synthetic_records` are further photographs
    of the same eye.

    Raises:
        DataError: the text is not of the form "synthetic/p0012/left/0".
    """
    match = _IMAGE_ID.fullmatch(image_id)
    if match:
        name = PhotographName(patient=int(match[1]), eye=match[2], photograph=int(match[3]))
        if name.image_id == image_id:
            return name
    raise DataError(f'image id {image_id!r} is not a synthetic photograph; expected e.g. "synthetic/p0012/left/0"')


def patient_traits(seed: int, patient: int) -> PatientTraits:
    """The traits of a patient; none depends on the grade."""
    draws = Draws(seed, "patient", patient, "traits")
    youth = draws.uniform()
    pigment = min(max(draws.normal(0.5, 0.25), 0.0), 1.0)
    tessellation = max(0.0, draws.uniform(-0.5, 1.0)) * (1.2 - 0.7 * pigment)
    return PatientTraits(
        pigment=pigment,
        tessellation=min(tessellation, 1.0),
        youth=youth,
        haze=(1 - 0.7 * youth) * draws.uniform() ** 2,
        caliber=1.0 + draws.normal(0.0, 0.1),
        tortuosity=draws.uniform(0.10, 0.32),
        cup=draws.uniform(0.25, 0.6),
        drusen=draws.integer(4, 40) if draws.chance(0.2 * (1 - youth)) else 0,
        clinic=draws.uniform(),
    )


def eye_grade(seed: int, patient: int, eye: str) -> int:
    """The severity of an eye, 0 (no lesion) to 4 (proliferative); the two eyes differ by one grade at most."""
    draws = Draws(seed, "patient", patient, "grade")
    grade = draws.pick(GRADE_SHARES)
    differing_eye, step, differs = draws.integer(0, 1), draws.integer(0, 1) * 2 - 1, draws.chance(_GRADE_DIFFERS_P)
    if differs and EYES[differing_eye] == eye:
        grade += step
    return min(max(grade, 0), NUM_GRADES - 1)


def synthetic_records(num_patients: int, seed: int) -> list[SyntheticRecord]:
    """Lists the photographs of a synthetic collection in a fixed order; renders none.

    Every patient has one photograph of each eye, and about a third of the eyes have a second one (same anatomy and
    lesions; other pose, light and perhaps camera).

    Args:
        num_patients: at least 1; the first patients of a larger collection are those of a smaller one.
        seed: root seed, the one to give to `render`.
    Raises:
        DataError: num_patients is below 1.
    """
    if num_patients < 1:
        raise DataError(f"synthetic photographs: number of patients is {num_patients}; expected at least 1")
    records = []
    for patient in range(num_patients):
        for eye in EYES:
            second = Draws(seed, "patient", patient, eye, "visits").chance(_SECOND_PHOTOGRAPH_P)
            label = str(eye_grade(seed, patient, eye))
            for photograph in range(2 if second else 1):
                name = PhotographName(patient=patient, eye=eye, photograph=photograph)
                records.append(
                    SyntheticRecord(image_id=name.image_id, label=label, patient_id=f"p{patient:04d}", eye=eye)
                )
    return records
