"""The six labelled datasets of Cheng et al. (MIDL 2025), Table 1: classes, counts, where they come from.

What is said about licences and download pages is second-hand unless a note says otherwise: read the terms on the page
before use. Class 0 is always the normal one, as the paper's sensitivity needs (it leaves class 0 out).
"""

from __future__ import annotations

from dataclasses import dataclass

from augscale.errors import ConfigError
from augscale.settings import nearest

SPLITS = ("train", "val", "test")

DR_SPACE = "diabetic retinopathy grade (ICDR, 0-4)"
DR_CLASSES = ("no DR", "mild", "moderate", "severe", "proliferative")

# In the order of the numbers that open the folder names: 2.* before 10.*, as the authors of JSIEC number them.
# Sorting the names as text (torchvision's ImageFolder, RETFound's splits) would put 10.* before 2.*.
JSIEC_CLASSES = (
    "0.0.Normal",
    "0.1.Tessellated fundus",
    "0.2.Large optic cup",
    "0.3.DR1",
    "1.0.DR2",
    "1.1.DR3",
    "2.0.BRVO",
    "2.1.CRVO",
    "3.RAO",
    "4.Rhegmatogenous RD",
    "5.0.CSCR",
    "5.1.VKH disease",
    "6.Maculopathy",
    "7.ERM",
    "8.MH",
    "9.Pathological myopia",
    "10.0.Possible glaucoma",
    "10.1.Optic atrophy",
    "11.Severe hypertensive retinopathy",
    "12.Disc swelling and elevation",
    "13.Dragged Disc",
    "14.Congenital disc abnormality",
    "15.0.Retinitis pigmentosa",
    "15.1.Bietti crystalline dystrophy",
    "16.Peripheral retinal degeneration and break",
    "17.Myelinated nerve fiber",
    "18.Vitreous particles",
    "19.Fundus neoplasm",
    "20.Massive hard exudates",
    "21.Yellow-white spots-flecks",
    "22.Cotton-wool spots",
    "23.Vessel tortuosity",
    "24.Chorioretinal atrophy-coloboma",
    "25.Preretinal hemorrhage",
    "26.Fibrosis",
    "27.Laser Spots",
    "28.Silicon oil in eye",
    "29.0.Blur fundus without PDR",
    "29.1.Blur fundus with suspected PDR",
)


@dataclass(frozen=True, kw_only=True)
class RetinalDataset:
    """One dataset of Table 1.

    Attributes:
        name: as the paper writes it.
        task: what the classes are.
        classes: names in index order.
        table1: images in train, val and test in the paper's Table 1.
        official: images as the owners count them.
        country: where the photographs were taken; None where Table 1 does not say.
        get: how to get it, one step per line.
        licence: as far as known, with what is uncertain.
        citation: what to cite.
        native: what the unpacked download looks like.
        published_folders: class folders of RETFound's published splits, in class order.
        patients: how patients are known; None where no release tells them.
        label_space: datasets with the same one can be tested on each other.
        class_counts: images per class as widely reported (not verified), in class order; None where unknown.
        notes: traps.
    """

    name: str
    task: str
    classes: tuple[str, ...]
    table1: tuple[int, int, int]
    official: int
    country: str | None
    get: tuple[str, ...]
    licence: str
    citation: str
    native: str
    published_folders: tuple[str, ...]
    patients: str | None
    label_space: str
    class_counts: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def table1_total(self) -> int:
        """The sum of the three splits, which is the paper's own total."""
        return sum(self.table1)

    def published_page(self) -> str:
        """Where the split as RETFound's authors publish it lies."""
        return (
            "or the split that RETFound publishes (very probably the paper's): the benchmark page of the RETFound "
            f"repository links a zip, Google Drive file id {_DRIVE_IDS[self.name]}"
        )


_DRIVE_IDS = {
    "APTOS2019": "162YPf4OhMVxj9TrQH0GnJv0n7z7gJWpj",
    "MESSIDOR-2": "1vOLBUK9xdzNV8eVkRjVdNrRwhPfaOmda",
    "IDRiD": "1c6zexA705z-ANEBNXJOBsk6uCvRnzmr3",
    "PAPILA": "1JltYs7WRWEU0yyki1CQw5-10HEbqCMBE",
    "JSIEC": "1q0GFQb-dYwzIx8AwlaFZenUJItix4s8z",
    "Retina": "1vdmjMRDoUm9yk83HMArLiPcLDk_dm92Q",
}

_DR_FOLDERS = ("anodr", "bmilddr", "cmoderatedr", "dseveredr", "eproliferativedr")

REGISTRY = (
    RetinalDataset(
        name="MESSIDOR-2",
        task="grade of diabetic retinopathy",
        classes=DR_CLASSES,
        table1=(972, 246, 526),
        official=1748,
        country="France",
        get=(
            "images and messidor-2.csv (the pairs): request form of ADCIS, third-party page MESSIDOR-2",
            "grades: messidor_data.csv of the Kaggle dataset google-brain/messidor2-dr-grades",
            "put both downloads into one folder",
        ),
        licence="research and education use after registration with ADCIS (as commonly described; read its form)",
        citation="Decenciere et al., Image Analysis & Stereology 2014 (images); Google's adjudicated grades, on Kaggle",
        native="IMAGES/ with 1748 .png and .JPG files, messidor-2.csv, messidor_data.csv",
        published_folders=_DR_FOLDERS,
        patients="the left;right pairs of messidor-2.csv",
        label_space=DR_SPACE,
        class_counts=(1017, 270, 347, 75, 35),
        notes=(
            "4 of the 1748 images are not gradable and left out: 1744 remain",
            "two eyes of a patient may lie in different published splits: --split patient avoids it",
        ),
    ),
    RetinalDataset(
        name="IDRiD",
        task="grade of diabetic retinopathy",
        classes=DR_CLASSES,
        table1=(329, 84, 103),
        official=516,
        country="India",
        get=("IEEE DataPort, DOI 10.21227/H25W98 (account needed): part B, Disease Grading",),
        licence="CC BY 4.0 (from general knowledge; check the DataPort page)",
        citation="Porwal et al., Data 2018, Indian Diabetic Retinopathy Image Dataset",
        native='"1. Original Images/{a. Training Set,b. Testing Set}/IDRiD_001.jpg" and "2. Groundtruths/*.csv" below '
        "a top folder whose name varies",
        published_folders=("anoDR", "bmildDR", "cmoderateDR", "dsevereDR", "eproDR"),
        patients=None,
        label_space=DR_SPACE,
        class_counts=(168, 25, 168, 93, 62),
        notes=(
            "the official test set (103 images) is the paper's",
            "only 5 test images are of grade 1: macro averages over classes are noisy",
            "file names repeat: both subsets begin at IDRiD_001",
        ),
    ),
    RetinalDataset(
        name="APTOS2019",
        task="grade of diabetic retinopathy",
        classes=DR_CLASSES,
        table1=(2048, 514, 1100),
        official=3662,
        country="India",
        get=("Kaggle competition aptos2019-blindness-detection (log in and accept its rules); about 9.5 GB",),
        licence="terms of the Kaggle competition",
        citation="Asia Pacific Tele-Ophthalmology Society, APTOS 2019 Blindness Detection, Kaggle 2019",
        native="train.csv (id_code,diagnosis) and train_images/ID.png; test_images/ has no labels and is not used",
        published_folders=_DR_FOLDERS,
        patients=None,
        label_space=DR_SPACE,
        class_counts=(1805, 370, 999, 193, 295),
        notes=(
            "a common re-pack is split 2930/366/366: that is neither the competition's layout nor the paper's split",
        ),
    ),
    RetinalDataset(
        name="PAPILA",
        task="glaucoma",
        classes=("normal", "suspect", "glaucoma"),
        table1=(312, 79, 98),
        official=488,
        country="Spain",
        get=("figshare, DOI 10.6084/m9.figshare.14798004: one zip of about 591 MB, no login",),
        licence="in conflict: GPL 3.0+ on the figshare record, CC BY 4.0 in the paper (second-hand; check both)",
        citation="Kovalyk et al., Scientific Data 9:291, 2022",
        native="FundusImages/RET002OD.jpg ..., ClinicalData/patient_data_od.xlsx and patient_data_os.xlsx",
        published_folders=("anormal", "bsuspectglaucoma", "cglaucoma"),
        patients="the number in RET002OD (both eyes of a patient)",
        label_space="glaucoma (normal, suspect, glaucoma)",
        class_counts=(333, 68, 87),
        notes=(
            "Table 1 counts 489 images, the release has 488; the difference is unexplained",
            "the tables number glaucoma 1 and suspect 2; here suspect is class 1 and glaucoma class 2, as in the paper",
            "two eyes of a patient may lie in different published splits: --split patient avoids it",
        ),
    ),
    RetinalDataset(
        name="JSIEC",
        task="39 findings and diseases",
        classes=JSIEC_CLASSES,
        table1=(534, 150, 316),
        official=1000,
        country="China",
        get=("Zenodo record 3477553: 1000images.zip",),
        licence="CC BY 4.0 (uncertain; check the Zenodo record)",
        citation="Cen et al., Nature Communications 12:4828, 2021",
        native="1000images/ with 39 class folders, 0.0.Normal to 29.1.Blur fundus with suspected PDR",
        published_folders=JSIEC_CLASSES,
        patients=None,
        label_space="JSIEC's 39 classes",
        notes=("some classes have only a handful of test images",),
    ),
    RetinalDataset(
        name="Retina",
        task="cataract, glaucoma and other retinal disease",
        classes=("normal", "cataract", "glaucoma", "other retinal disease"),
        table1=(336, 84, 181),
        official=601,
        country=None,
        get=("Kaggle dataset jr2ngb/cataractdataset, or the GitHub repository cvblab/retina_dataset",),
        licence="not stated",
        citation="none known; provenance unknown (Kaggle jr2ngb/cataractdataset)",
        native="dataset/{1_normal,2_cataract,2_glaucoma,3_retina_disease}/*.png",
        published_folders=("anormal", "bcataract", "cglaucoma", "ddretina_disease"),
        patients=None,
        label_space="normal, cataract, glaucoma, other retinal disease",
        class_counts=(300, 100, 101, 100),
        notes=("two eyes of a patient may lie in different splits; no release tells the patients",),
    ),
)

NAMES = tuple(dataset.name for dataset in REGISTRY)


def find_dataset(name: str) -> RetinalDataset | None:
    """The dataset of that name; case, hyphens, underscores and spaces do not matter."""
    return next((dataset for dataset in REGISTRY if _plain(dataset.name) == _plain(name)), None)


def get_dataset(name: str) -> RetinalDataset:
    """As `find_dataset`.

    Raises:
        ConfigError: no dataset of that name; the nearest is named.
    """
    dataset = find_dataset(name)
    if dataset is None:
        raise ConfigError(f"no dataset named {name!r}{nearest(name, list(NAMES))}; known: {', '.join(NAMES)}")
    return dataset


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
