"""What a path is before anything is read: exists, readable, not empty, and what its first bytes look like."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from r2seg_agent.errors import InputError

SourceFormat = Literal["nifti", "nrrd", "metaimage", "dicom", "picture"]

FORMAT_OF_SUFFIX: dict[str, SourceFormat] = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
    ".mha": "metaimage",
    ".mhd": "metaimage",
    ".dcm": "dicom",
    ".dicom": "dicom",
    ".ima": "dicom",
    ".png": "picture",
    ".jpg": "picture",
    ".jpeg": "picture",
    ".tif": "picture",
    ".tiff": "picture",
}
ALLOWED = (
    "Allowed are NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd), DICOM (a file or a series folder) "
    "and grey 2D pictures (.png, .jpg, .tif)."
)
HEAD_BYTES = 512
_FIRST_FIELDS = (b"UL", b"UI", b"CS", b"OB", b"DA", b"TM", b"LO", b"SH")
"""Value representations of the fields that a DICOM data set can begin with."""
_SHORT_FIELD = 128
MAX_DEFLATE_RATIO = 1032
"""DEFLATE (gzip, zlib) cannot shrink data by more than this factor (RFC 1951: 258 bytes from 2 bits), so a header that
promises more voxels than file size × 1032 is wrong, and nothing needs to be allocated to know it."""

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip data"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
    (b"\x89HDF", "an HDF5 file"),
    (b"NRRD", "an NRRD file"),
    (b"ObjectType", "a MetaImage file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"version https://git-lfs", "a Git LFS pointer, not the data itself"),
)


def file_of(text: str | Path) -> Path:
    """The file of `FILE::PART`, where PART chooses a volume, a label or a structure in it; else the path itself."""
    file, separator, _ = str(text).rpartition("::")
    return Path(file) if separator and file and not Path(text).exists() else Path(text)


def split_volume(path: Path) -> tuple[Path, int | None]:
    """`scan.nii.gz::2` → the file and 2, which of its volumes is meant (from 1); None where none is chosen."""
    file = file_of(path)
    chosen = str(path)[len(str(file)) :].removeprefix("::")
    return (file, int(chosen)) if chosen.isdecimal() else (path, None)


def one_of_several(path: Path, what: str, n: int, chosen: int | None, sizes: Sequence[int]) -> int:
    """The index (from 0) of the chosen volume of `n`. `sizes` are those of the file, in its own order.

    Raises:
        InputError: several and none is chosen, or a number that is not there.
    """
    of_image = what == "image"
    if n > 1 and chosen is None:
        raise InputError(
            f"The {what} `{path}` is {len(sizes)}D, of shape {' × '.join(map(str, sizes))}; one 3D volume is needed.",
            f"Choose one of its {n} volumes by a number behind the path: `{path}::1` … `{path}::{n}`; more of them as "
            f"`--channel NAME={path}::2`."
            if of_image
            else "Save the volume that you need as its own 3D file.",
        )
    if chosen is not None and not 1 <= chosen <= n:
        raise InputError(
            f"The {what} `{path}` has no volume {chosen}; it holds {n}.", f"Choose from `{path}::1` to `{path}::{n}`."
        )
    return (chosen or 1) - 1


def suffix_of(path: Path) -> str:
    """The suffix that decides the format, in lower case: ".nii.gz" counts as one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def has_dicom_magic(head: bytes) -> bool:
    """True for DICOM part 10 files: "DICM" after a 128-byte preamble."""
    return head[128:132] == b"DICM"


def looks_like_dicom(head: bytes) -> bool:
    """True for DICOM files, also those without preamble: a data set begins with group 2 or 8 and a known kind of field.

    Explicit fields name their value representation in two capitals; implicit ones have a length of four bytes, and
    those at the beginning are short.
    """
    if has_dicom_magic(head):
        return True
    if len(head) < 12:
        return False
    if head[:2] in (b"\x02\x00", b"\x08\x00"):
        explicit = head[4:6] in _FIRST_FIELDS
        return explicit or (head[2] <= 0x20 and head[3] == 0 and int.from_bytes(head[4:8], "little") <= _SHORT_FIELD)
    return head[:2] == b"\x00\x08" and head[4:6] in _FIRST_FIELDS


def describe_content(head: bytes) -> str:
    """What the first bytes of a file look like, in words: "a ZIP archive", "text", "unknown binary data"."""
    if not head:
        return "nothing"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if looks_like_dicom(head):
        return "a DICOM file"
    if head[:4] in (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c", b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c"):
        return "a NIfTI or Analyze header"
    if head.lstrip()[:1] == b"<":
        return "an HTML or XML page (perhaps a failed download)"
    if all(byte in b"\t\r\n\f" or 32 <= byte < 127 for byte in head):
        return "text"
    return "unknown binary data"


def check_path(path: Path, what: str) -> None:
    """Raise `InputError` unless `path` exists (a file or a folder)."""
    try:
        path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise InputError(f"The {what} `{path}` is a link that points to nothing.", "Repair the link.") from None
        parent = path.parent
        here = "" if parent.is_dir() else f" (the folder `{parent}` does not exist either)"
        raise InputError(f"The {what} `{path}` does not exist{here}.", "Check the path for typing errors.") from None
    except NotADirectoryError:
        raise InputError(
            f"The {what} `{path}` does not exist: a part of its path is a file, not a folder.", "Check the path."
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"The {what} `{path}` cannot be opened: {_os_reason(error)}.", "Check the path.") from None


def read_head(path: Path, what: str) -> bytes:
    """The first bytes of a regular file.

    Raises:
        InputError: missing, a folder, a device, unreadable or empty.
    """
    check_path(path, what)
    if path.is_dir():
        raise InputError(f"The {what} `{path}` is a folder where a file is needed.", "Name the file inside it.")
    if not path.is_file():
        raise InputError(f"The {what} `{path}` is not a regular file (a device or a pipe).", "Save it to a file first.")
    with readable(path, what), path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise InputError(f"The {what} `{path}` is empty (0 bytes).", "Copy or download it again.")
    return head


@contextmanager
def readable(path: Path, what: str) -> Iterator[None]:
    """Turn the operating system's errors while reading `path` into `InputError`."""
    try:
        yield
    except PermissionError:
        raise InputError(
            f"The {what} `{path}` cannot be read: permission denied.", "Ask its owner for read access, or copy it."
        ) from None
    except OSError as error:
        raise InputError(
            f"The {what} `{path}` cannot be read: {_os_reason(error)}.", "Copy it to a local disk and try again."
        ) from None


def check_plausible_size(path: Path, what: str, wanted_bytes: int, stored_bytes: int, *, compressed: bool) -> None:
    """Raise `InputError` when a header promises more voxel bytes than the file can hold."""
    limit = stored_bytes * (MAX_DEFLATE_RATIO if compressed else 1)
    if wanted_bytes > limit:
        raise InputError(
            f"The {what} `{path}` is truncated or its header is wrong: the header promises {wanted_bytes:,} bytes of "
            f"voxels, and the file holds {stored_bytes:,}{' compressed' if compressed else ''}.",
            "Copy or download it again, and compare the sizes.",
        )


def truncated(path: Path, what: str, detail: str) -> InputError:
    """The error for data that end early or are damaged."""
    return InputError(
        f"The {what} `{path}` is truncated or damaged: {detail}.", "Copy or download it again, and compare checksums."
    )


def last_sentence(text: str) -> str:
    """Library messages without memory addresses, cut to a readable length."""
    return re.sub(r"\(?0x[0-9a-fA-F]+\)?:?", "", text).strip()[:200]


def _os_reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno).lower()
    return str(error)
