"""Text headers of NRRD and MetaImage, checked before ITK reads them.

ITK takes a zero, negative or NaN spacing in some of these headers as 1, tries to allocate whatever size they claim, and
names a missing data file only as "cannot be read".
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path, PureWindowsPath

from r2seg_agent.errors import InputError
from r2seg_agent.imaging import checks, files, itk
from r2seg_agent.imaging.memory import check_memory

MAX_HEADER_BYTES = 1 << 20
MAX_DIMENSIONS = 10
"""MetaIO's own limit for `NDims`."""
_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), 8),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), 8),
    "float": 4,
    "double": 8,
}
_META_BYTES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_LONG": 4,
    "MET_ULONG": 4,
    "MET_LONG_LONG": 8,
    "MET_ULONG_LONG": 8,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}
MAX_DATA_FILES = 100_000
MAX_NRRD_FIELD = 600
"""Characters of a field's line: ITK's reader writes longer ones past the end of its buffers, and the process dies."""
_BYTES_OF_TEXT = {"ascii": 2, "text": 2, "txt": 2, "hex": 2}
"""NRRD encodings as text: a number and a blank for each voxel, or two digits for each byte."""
_SPATIAL_KINDS = {"domain", "space", "???", "none", "time"}


def check_nrrd_header(path: Path, what: str = "image", *, layers: bool = False) -> None:
    """Raise `InputError` for an NRRD header that cannot give one grey 3D volume, or that names files elsewhere.

    `layers`: several values per voxel are allowed (a layered .seg.nrrd).
    """
    raw = _head(path, what, b"NRRD", "an NRRD file")
    end = re.search(rb"\r?\n\r?\n", raw)
    if end is None and len(raw) == MAX_HEADER_BYTES:
        raise InputError(f"The {what} `{path}` has an NRRD header without an end.", "Export it again.")
    fields: dict[str, str] = {}
    lines = re.split(r"\r\n|\n|\r", raw[: end.start() if end else len(raw)].decode("latin-1"))
    listed: list[str] = []
    for n, line in enumerate(lines[1:], start=1):
        key, colon, value = line.partition(":")
        key = key.strip().lower()
        if len(line) > MAX_NRRD_FIELD and not line.startswith("#") and not value.startswith("=") and key != "content":
            raise InputError(
                f"The {what} `{path}` has a line of {len(line):,} characters in its NRRD header; at most "
                f"{MAX_NRRD_FIELD} are read.",
                "Export it again.",
            )
        if line.startswith("#") or not colon or value.startswith("="):
            continue
        if key in fields:
            raise InputError(f"The {what} `{path}` states `{key}` twice in its NRRD header.", "Export it again.")
        fields[key] = value.strip()
        if key in ("data file", "datafile") and value.strip().upper().startswith("LIST"):
            listed = [name for name in lines[n + 1 :] if name.strip()]
            break
    sizes = _ints(path, what, "sizes", fields.get("sizes", ""))
    if not sizes:
        raise InputError(f"The {what} `{path}` has an NRRD header without `sizes`.", "Export it again.")
    kinds = fields.get("kinds", "").lower().split() or ["domain"] * len(sizes)
    components = [n for n, kind in zip(sizes, kinds, strict=False) if kind not in _SPATIAL_KINDS and n > 1]
    if components and not layers:
        raise itk.vector_error(path, what, math.prod(components))
    if "spacings" in fields:
        checks.check_spacing(path, what, _floats(fields["spacings"])[:3][::-1])
    if "space directions" in fields:
        vectors = re.findall(r"\(([^)]*)\)", fields["space directions"])
        lengths = [math.hypot(*_floats(vector.replace(",", " "))) for vector in vectors]
        checks.check_spacing(path, what, lengths[::-1])
    width = _NRRD_BYTES.get(fields.get("type", "").lower())
    if width is None:
        raise InputError(
            f"The {what} `{path}` holds voxels of type `{fields.get('type', '')}`; a plain number type is needed.",
            "Export it with short or float voxels.",
        )
    encoding = fields.get("encoding", "raw").lower()
    data = fields.get("data file", fields.get("datafile"))
    for name in ("line skip", "lineskip", "byte skip", "byteskip"):
        _whole(path, what, name, fields.get(name, "0"))
    if data is None:
        stored = path.stat().st_size - (end.end() if end else 0)
    elif data.upper().startswith("LIST"):
        stored = sum(_data_file(path, what, name) for name in listed)
    elif "%" in data:
        stored = _numbered_files(path, what, data)
    else:
        stored = _data_file(path, what, data)
    skip = 0 if data is None else _whole(path, what, "byte skip", fields.get("byte skip", fields.get("byteskip", "0")))
    _check_amount(path, what, sizes, width, len_data=stored - max(0, skip), how=encoding)


def check_metaimage_header(path: Path, what: str = "image") -> itk.ZlibVoxels | None:
    """Raise `InputError` for a MetaImage header that cannot give one grey 3D volume, or that names files elsewhere.

    Returns where the voxels are, when they are compressed in the same file: ITK would unpack them from a second
    buffer and print on stderr when they are damaged, so `itk.read_itk` streams them itself.
    """
    raw = _head(path, what, b"", "a MetaImage file")
    end = re.search(rb"ElementDataFile[ \t]*[=:][ \t]*([^\r\n]*)\r?\n?", raw)
    if end is not None and raw.find(b"ElementDataFile") != end.start():
        end = None
    lines = raw[: end.end() if end else 0].decode("latin-1").splitlines()
    fields = {
        key.strip(): value.strip()
        for key, _, value in (re.sub("[=:]", "=", line, count=1).partition("=") for line in lines)
    }
    if end is None or "DimSize" not in fields or "NDims" not in fields:
        looks = files.describe_content(raw[: files.HEAD_BYTES])
        raise InputError(
            f"The {what} `{path}` is not a MetaImage file: it looks like {looks}. {files.ALLOWED}",
            "Give the file its true suffix, or export it again.",
        )
    sizes = _ints(path, what, "DimSize", fields["DimSize"])
    _check_lengths(path, what, fields, len(sizes))
    components = _ints(path, what, "ElementNumberOfChannels", fields.get("ElementNumberOfChannels", "1"))[0]
    if components != 1:
        raise itk.vector_error(path, what, components)
    spacing = fields.get("ElementSpacing", fields.get("ElementSize"))
    if spacing is not None:
        checks.check_spacing(path, what, _floats(spacing)[:3][::-1])
    width = _META_BYTES.get(fields.get("ElementType", ""))
    if width is None:
        raise InputError(
            f"The {what} `{path}` holds voxels of type `{fields.get('ElementType', '')}`; a plain number is needed.",
            "Export it with short or float voxels.",
        )
    compressed = fields.get("CompressedData", "False").lower() == "true"
    data = end.group(1).decode("latin-1").strip()
    header = _whole(path, what, "HeaderSize", fields.get("HeaderSize", "0"))
    if data.upper().startswith("LIST"):
        names = raw[end.end() :].decode("latin-1").splitlines()
        stored = sum(_data_file(path, what, name.strip()) for name in names if name.strip())
    elif "%" in data:
        stored = _numbered_files(path, what, data)
    elif data.upper() == "LOCAL":
        stored = path.stat().st_size - end.end()
    else:
        stored = _data_file(path, what, data)
    stored -= max(0, header)
    said = fields.get("CompressedDataSize", "0")
    if compressed and said.isdigit() and int(said) > stored:
        raise files.truncated(path, what, f"{stored:,} of {int(said):,} compressed bytes are there")
    _check_amount(path, what, sizes, width, len_data=stored, how="gzip" if compressed else "raw")
    if not compressed or data.upper() != "LOCAL":
        return None
    big_endian = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False")).lower() == "true"
    return itk.ZlibVoxels(end.end() + max(0, header), math.prod(sizes) * width, big_endian)


def _check_lengths(path: Path, what: str, fields: dict[str, str], ndim: int) -> None:
    """Raise `InputError` for a MetaImage header whose fields disagree on the dimension: ITK crashes on some of them."""
    lengths = dict.fromkeys(("Offset", "Origin", "Position", "CenterOfRotation", "ElementSpacing", "ElementSize"), ndim)
    lengths |= dict.fromkeys(("TransformMatrix", "Rotation", "Orientation"), ndim**2)
    wrong = [name for name, n in lengths.items() if name in fields and len(fields[name].split()) != n]
    if fields["NDims"] != str(ndim) or wrong or not 2 <= ndim <= MAX_DIMENSIONS:
        listed = ", ".join(f"{name} is `{fields[name][:60]}`" for name in ("NDims", "DimSize", *wrong))
        raise InputError(
            f"The {what} `{path}` has an impossible header: its fields disagree on the dimension ({listed}).",
            "Export it again from the source.",
        )


def _head(path: Path, what: str, magic: bytes, name: str) -> bytes:
    head = files.read_head(path, what)
    if not head.startswith(magic):
        raise InputError(
            f"The {what} `{path}` is not {name}: it looks like {files.describe_content(head)}. {files.ALLOWED}",
            "Give the file its true suffix, or export it again.",
        )
    with files.readable(path, what), path.open("rb") as file:
        return file.read(MAX_HEADER_BYTES)


def _ints(path: Path, what: str, field: str, text: str) -> list[int]:
    try:
        values = [int(word) for word in text.split()]
    except ValueError:
        values = [0]
    if not values or min(values) < 1:
        raise InputError(
            f"The {what} `{path}` has an impossible header: {field} is `{text}`.", "Export it again from the source."
        )
    return values


def _floats(text: str) -> list[float]:
    """Numbers of a header field; a word that is none becomes NaN, for the caller's check to refuse."""
    values = []
    for word in text.split():
        try:
            values.append(float(word))
        except ValueError:
            values.append(math.nan)
    return values


def _whole(path: Path, what: str, field: str, text: str) -> int:
    if not re.fullmatch(r"[+-]?\d{1,18}", text.strip()):
        raise InputError(
            f"The {what} `{path}` has an impossible header: {field} is `{text[:60]}`, and a whole number is needed.",
            "Export it again from the source.",
        )
    return int(text)


def _numbered_files(path: Path, what: str, pattern: str) -> int:
    """Size of the data files that a detached header names by a pattern and numbers: `slice%03d.raw 1 24 1`."""
    name, *numbers = pattern.split()
    if not re.fullmatch(r"[^%]*%0?\d{0,2}d[^%]*", name) or not 2 <= len(numbers) <= 4:
        raise InputError(
            f"The {what} `{path}` has an impossible header: `{pattern[:60]}` is no pattern of data files.",
            "Export it again as one file.",
        )
    first, last, step = [*(_whole(path, what, "data file", n) for n in numbers[:3]), 1][:3]
    if step == 0 or abs(last - first) // abs(step) > MAX_DATA_FILES:
        raise InputError(
            f"The {what} `{path}` names more data files than there can be: `{pattern[:60]}`.", "Export it again."
        )
    counted = range(first, last + (1 if step > 0 else -1), step)
    return sum(_data_file(path, what, name % n) for n in counted)


def _data_file(path: Path, what: str, name: str) -> int:
    """Size of the data file that a detached header names, in the header's own folder or below it."""
    if PureWindowsPath(name).anchor or ".." in PureWindowsPath(name).parts:
        raise InputError(
            f"The {what} `{path}` names a data file outside its own folder (`{name[:200]}`): none but those in it are "
            "read.",
            "Copy the data file beside the header and correct its name there.",
        )
    data = path.parent / os.fsdecode(name.encode("latin-1"))
    try:
        if data.is_file():
            return data.stat().st_size
    except (OSError, ValueError):  # no system takes such a name
        pass
    raise InputError(
        f"The {what} `{path}` is only a header; its data file `{name[:200]}` is not beside it.",
        "Copy the data file into the same folder under that name.",
    )


def _check_amount(path: Path, what: str, sizes: list[int], width: int, *, len_data: int, how: str) -> None:
    wanted = math.prod(sizes) * width
    if how in _BYTES_OF_TEXT:
        enough = _BYTES_OF_TEXT[how] * (wanted if how == "hex" else math.prod(sizes)) - 1
        if enough > len_data:
            raise InputError(
                f"The {what} `{path}` is truncated or its header is wrong: the header promises {math.prod(sizes):,} "
                f"voxels, and {len_data:,} bytes of text cannot hold them.",
                "Copy or download it again, and compare the sizes.",
            )
    elif how in {"raw", "gzip", "gz"}:
        files.check_plausible_size(path, what, wanted, len_data, compressed=how != "raw")
    check_memory(path, what, wanted)
