"""Broken inputs, one maker each, for the readers' tests and for the command's: `from broken_inputs import BROKEN`.

`make(tmp_path)` writes the input and returns its path. With `as_mask` it is broken as the mask of
`good_image(tmp_path)`, else as the image itself. `expect` is a regular expression that the error message must match.
"""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK
from numpy.typing import NDArray
from PIL import Image

from helpers import dicom_files

SHAPE = (6, 24, 20)
"""(z, y, x) of the good image."""
AFFINE = np.array([[-0.7, 0, 0, 10], [0, -0.7, 0, 20], [0, 0, 2.5, -30], [0, 0, 0, 1.0]])


@dataclass(frozen=True)
class BrokenInput:
    name: str
    make: Callable[[Path], Path]
    expect: str
    as_mask: bool = False


def body(shape: tuple[int, int, int] = SHAPE) -> NDArray[np.int16]:
    """Soft tissue in air, with noise, in HU."""
    hu = np.full(shape, -1000, dtype=np.int16)
    hu[:, 4:-4, 4:-4] = 40
    return hu + np.random.default_rng(0).integers(-9, 10, shape).astype(np.int16)


def save_nifti(path: Path, zyx: NDArray, affine: NDArray | None = None) -> Path:
    nib.save(nib.Nifti1Image(zyx.T, AFFINE if affine is None else affine), path)
    return path


def good_image(tmp_path: Path) -> Path:
    return save_nifti(tmp_path / "good.nii.gz", body())


def edit_header(path: Path, **fields: object) -> Path:
    """Overwrite raw NIfTI-1 header fields of an uncompressed file."""
    data = bytearray(path.read_bytes())
    header = np.frombuffer(data[:348], dtype=nib.Nifti1Header().template_dtype).copy()
    for name, value in fields.items():
        header[name] = value
    data[:348] = header.tobytes()
    path.write_bytes(bytes(data))
    return path


def _bytes(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(tmp_path: Path) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return make


def _nifti(**fields: object) -> Callable[[Path], Path]:
    return lambda tmp_path: edit_header(save_nifti(tmp_path / "scan.nii", body()), **fields)


def _array(zyx: NDArray, name: str = "scan.nii.gz", affine: NDArray | None = None) -> Callable[[Path], Path]:
    return lambda tmp_path: save_nifti(tmp_path / name, zyx, affine)


def _cut(name: str, keep: float) -> Callable[[Path], Path]:
    def make(tmp_path: Path) -> Path:
        path = tmp_path / name
        if name.endswith((".nii", ".nii.gz")):
            save_nifti(path, body())
        else:
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(body()), str(path), name.startswith("packed"))
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])
        return path

    return make


def _flipped_bit(tmp_path: Path) -> Path:
    """A gzip stream that unpacks to the right length, but not to its checksum."""
    path = save_nifti(tmp_path / "scan.nii.gz", body())
    data = bytearray(path.read_bytes())
    data[-8] ^= 0xFF
    path.write_bytes(bytes(data))
    return path


def _header_text(name: str, old: bytes, new: bytes) -> Callable[[Path], Path]:
    def make(tmp_path: Path) -> Path:
        path = tmp_path / name
        image = SimpleITK.GetImageFromArray(body())
        image.SetSpacing((0.5, 0.75, 2.5))
        SimpleITK.WriteImage(image, str(path))
        data = path.read_bytes()
        assert old in data, data[:400]
        path.write_bytes(data.replace(old, new, 1))
        return path

    return make


def detached_nrrd(data: str, more: str = "") -> Callable[[Path], Path]:
    """A header of `body()` whose voxels are in the file `data`; `scan.raw` beside it holds them."""

    def make(tmp_path: Path) -> Path:
        (tmp_path / "scan.raw").write_bytes(body().tobytes())
        (tmp_path / "scan.nhdr").write_text(
            "NRRD0004\ntype: short\ndimension: 3\nsizes: 20 24 6\nendian: little\nencoding: raw\n"
            f"{more}data file: {data}\n"
        )
        return tmp_path / "scan.nhdr"

    return make


def detached_mhd(data: str, more: str = "") -> Callable[[Path], Path]:
    """As `detached_nrrd`, for MetaImage."""

    def make(tmp_path: Path) -> Path:
        (tmp_path / "scan.raw").write_bytes(body().tobytes())
        (tmp_path / "scan.mhd").write_text(
            f"ObjectType = Image\nNDims = 3\nDimSize = 20 24 6\nElementType = MET_SHORT\n{more}"
            f"ElementDataFile = {data}\n"
        )
        return tmp_path / "scan.mhd"

    return make


ELSEWHERE = [
    ("/etc/passwd", "outside its own folder"),
    ("../../../../../../etc/passwd", "outside its own folder"),
    ("sub/../../scan.raw", "outside its own folder"),
    ("C:\\secret.raw", "outside its own folder"),
    ("LIST\n/etc/passwd", "outside its own folder"),
    ("LIST\nscan.raw\n../x.raw", "outside its own folder"),
    ("/etc/slice%d.raw 1 6 1", "outside its own folder"),
    ("../slice%03d.raw 1 6 1", "outside its own folder"),
    ("slice%s%n.raw 1 6 1", "no pattern of data files"),
    ("slice%d.raw", "no pattern of data files"),
    ("slice%d.raw 1 999999999 1", "more data files than there can be"),
    ("slice%d.raw 1 6 1", "data file `slice1.raw` is not beside it"),
]
"""Names of data files that no header may use, and what is said."""


def _text_nrrd(encoding: str) -> Callable[[Path], Path]:
    """80 bytes that claim a thousand million voxels: ITK takes 4 GB for them."""
    text = f"NRRD0004\ntype: float\ndimension: 3\nsizes: 1000 1000 1000\nencoding: {encoding}\n\n1 2 3 4"
    return _bytes("scan.nrrd", text.encode())


def _nan(tmp_path: Path) -> Path:
    array = body().astype(np.float32)
    array[2, 3, :4] = np.nan
    array[3, 3, 3] = np.inf
    return save_nifti(tmp_path / "scan.nii.gz", array)


def _contradiction(tmp_path: Path) -> Path:
    """qform and sform of the same code, one a left-right flip of the other."""
    image = nib.Nifti1Image(body().T, AFFINE)
    image.set_qform(AFFINE, code=1)
    image.set_sform(AFFINE @ np.diag([-1.0, 1, 1, 1]), code=1)
    nib.save(image, tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def _complex(tmp_path: Path) -> Path:
    return save_nifti(tmp_path / "scan.nii.gz", body().astype(np.complex64))


def _vector(name: str) -> Callable[[Path], Path]:
    def make(tmp_path: Path) -> Path:
        SimpleITK.WriteImage(
            SimpleITK.GetImageFromArray(np.stack([body()] * 3, axis=-1), isVector=True), str(tmp_path / name)
        )
        return tmp_path / name

    return make


def _itk_4d(tmp_path: Path) -> Path:
    SimpleITK.WriteImage(
        SimpleITK.GetImageFromArray(np.stack([body()] * 3), isVector=False), str(tmp_path / "scan.nrrd")
    )
    return tmp_path / "scan.nrrd"


def rgb_nifti(tmp_path: Path) -> Path:
    """A colour volume of 8 × 8 × 4 voxels (x, y, z), number type RGB24."""
    rgb = np.zeros((8, 8, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["R"] = np.arange(8, dtype=np.uint8)[:, None, None]
    nib.save(nib.Nifti1Image(rgb, AFFINE), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def rgb_picture(name: str) -> Callable[[Path], Path]:
    """A maker of a colour picture of 16 × 16 pixels."""

    def make(tmp_path: Path) -> Path:
        rgb = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(rgb).save(tmp_path / name)
        return tmp_path / name

    return make


def _transparent(tmp_path: Path) -> Path:
    pixels = np.full((16, 16, 4), 90, dtype=np.uint8)
    pixels[3:6, 3:6, :3] = 200
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def _half_picture(name: str) -> Callable[[Path], Path]:
    def make(tmp_path: Path) -> Path:
        grey = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        return tmp_path / name

    return make


def _pages(tmp_path: Path) -> Path:
    pages = [Image.fromarray(plane.astype(np.uint8)) for plane in np.arange(3 * 256).reshape(3, 16, 16) % 251]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    return tmp_path / "stack.tif"


def _zip(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "scan.nii.gz", "w") as archive:
        archive.writestr("scan.nii", b"0" * 400)
    return tmp_path / "scan.nii.gz"


def _folder(*names: str) -> Callable[[Path], Path]:
    def make(tmp_path: Path) -> Path:
        folder = tmp_path / "folder"
        folder.mkdir()
        for name in names:
            (folder / name).write_text("hello")
        return folder

    return make


def _loop(tmp_path: Path) -> Path:
    (tmp_path / "loop.nii").symlink_to(tmp_path / "loop.nii")
    return tmp_path / "loop.nii"


def _dead_link(tmp_path: Path) -> Path:
    (tmp_path / "link.nii").symlink_to(tmp_path / "gone.nii")
    return tmp_path / "link.nii"


def _headless(tmp_path: Path) -> Path:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(body()), str(tmp_path / "scan.mhd"))
    (tmp_path / "scan.raw").unlink()
    return tmp_path / "scan.mhd"


def _series(**options: object) -> Callable[[Path], Path]:
    def make(tmp_path: Path) -> Path:
        dicom_files.write_series(tmp_path / "series", body(), **options)  # type: ignore[arg-type]
        return tmp_path / "series"

    return make


def _two_series(tmp_path: Path) -> Path:
    for number in (1, 2):
        dicom_files.write_series(tmp_path / "study" / str(number), body(), series=number)
    return tmp_path / "study"


def _edited_series(edit: Callable[[list[Path]], None]) -> Callable[[Path], Path]:
    def make(tmp_path: Path) -> Path:
        edit(dicom_files.write_series(tmp_path / "series", body()))
        return tmp_path / "series"

    return make


def _edit(path: Path, **fields: object) -> None:
    import pydicom

    ds = pydicom.dcmread(path)
    for name, value in fields.items():
        setattr(ds, name, value)
    ds.save_as(path)


def _duplicate(paths: list[Path]) -> None:
    """A second slice at the place of the first: another phase."""
    import pydicom

    ds = pydicom.dcmread(paths[0])
    ds.PixelData = ds.PixelData[::-1]
    ds.SOPInstanceUID += ".2"
    ds.save_as(paths[0].with_name("copy"))


def _no_positions(paths: list[Path]) -> None:
    import pydicom

    for path in paths:
        ds = pydicom.dcmread(path)
        del ds.ImagePositionPatient
        ds.save_as(path)


def _tilted(paths: list[Path]) -> None:
    for z, path in enumerate(paths):
        _edit(path, ImagePositionPatient=[-30, -20 + 0.4 * z, 100 + 2.5 * z])


def _dicom_file(name: str, **fields: object) -> Callable[[Path], Path]:
    def make(tmp_path: Path) -> Path:
        ds = dicom_files.dicom_slice((body()[2] + 1024).astype(np.uint16), (0, 0, 0))
        for field, value in fields.items():
            if value is None:
                delattr(ds, field)
            else:
                setattr(ds, field, value)
        ds.save_as(tmp_path / name)
        return tmp_path / name

    return make


def _strange_syntax(tmp_path: Path) -> Path:
    ds = dicom_files.dicom_slice((body()[2] + 1024).astype(np.uint16), (0, 0, 0))
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG-2: a film, no decoder
    ds.PixelData = (
        b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0\x04\x00\x00\x00abcd\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    )
    ds["PixelData"].is_undefined_length = True
    ds.save_as(tmp_path / "film.dcm")
    return tmp_path / "film.dcm"


def _rtstruct(tmp_path: Path) -> Path:
    square = np.array([[0, 0, 0], [5, 0, 0], [5, 5, 0], [0, 5, 0]], dtype=np.float64)
    dicom_files.rtstruct({"GTV": [square], "lung": [square]}).save_as(tmp_path / "structures.dcm")
    return tmp_path / "structures.dcm"


def _segmentation(tmp_path: Path) -> Path:
    ds = dicom_files.empty_file("1.2.840.10008.5.1.4.1.1.66.4", f"{dicom_files.STUDY}.7", "SEG")
    ds.Rows, ds.Columns, ds.NumberOfFrames = 8, 8, 1
    ds.save_as(tmp_path / "seg.dcm")
    return tmp_path / "seg.dcm"


def _mask(**changes: object) -> NDArray[np.uint8]:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[2:4, 8:12, 8:12] = 1
    return mask


def _moved(**changes: float) -> NDArray[np.float64]:
    affine = AFFINE.copy()
    affine[0, 3] += changes.get("shift", 0.0)
    affine[2, 2] *= changes.get("stretch", 1.0)
    angle = changes.get("angle", 0.0)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ affine


_SHEARED = AFFINE + np.array([[0, 0.3, 0, 0]] + [[0.0] * 4] * 3)

BROKEN: list[BrokenInput] = [
    BrokenInput("missing", lambda tmp_path: tmp_path / "nothing.nii.gz", "does not exist"),
    BrokenInput("missing-folder", lambda tmp_path: tmp_path / "no" / "scan.nii", "folder .* does not exist either"),
    BrokenInput("dead-link", _dead_link, "link that points to nothing"),
    BrokenInput("link-loop", _loop, "cannot be opened"),
    BrokenInput("empty-file", _bytes("scan.nii.gz", b""), "empty"),
    BrokenInput("text-as-nifti", _bytes("scan.nii", b"this is no scan\n" * 40), "not a NIfTI.*text"),
    BrokenInput("short-text-as-nifti", _bytes("scan.nii", b"hello"), "truncated.*too few"),
    BrokenInput("zip-as-nifti", _zip, "not a NIfTI.*ZIP"),
    BrokenInput("pdf-as-dicom", _bytes("scan.dcm", b"%PDF-1.4\n" + b"x" * 600), "not a readable DICOM.*PDF"),
    BrokenInput("html-as-nrrd", _bytes("scan.nrrd", b"<!DOCTYPE html><p>404</p>"), "not an NRRD.*HTML"),
    BrokenInput("text-as-metaimage", _bytes("scan.mha", b"nothing = here\n"), "not a MetaImage.*text"),
    BrokenInput("text-as-png", _bytes("scan.png", b"no picture"), "not a readable picture.*text"),
    BrokenInput(
        "git-lfs-pointer", _bytes("scan.png", b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"
    ),
    BrokenInput("unknown-suffix", _bytes("scan.xyz", b"\x93NUMPY" + b"\0" * 90), "unknown suffix `.xyz`.*NumPy"),
    BrokenInput("truncated-gzip", _cut("scan.nii.gz", 0.6), "truncated or damaged"),
    BrokenInput("truncated-nifti", _cut("scan.nii", 0.9), "truncated.*promises"),
    BrokenInput("truncated-header", _cut("scan.nii", 0.03), "truncated.*header"),
    BrokenInput("truncated-nrrd", _cut("scan.nrrd", 0.8), "truncated.*promises"),
    BrokenInput("truncated-gzip-nrrd", _cut("packed.nrrd", 0.7), "cannot be read"),
    BrokenInput("truncated-metaimage", _cut("scan.mha", 0.8), "truncated.*promises"),
    BrokenInput("truncated-zlib-metaimage", _cut("packed.mha", 0.7), "truncated or damaged.*compressed bytes"),
    BrokenInput("corrupt-gzip", _flipped_bit, "truncated or damaged: .*checksum"),
    BrokenInput("data-file-missing", _headless, "only a header; its data file `scan.raw`"),
    BrokenInput("absurd-dimensions", _nifti(dim=[3, 32000, 32000, 32000, 1, 1, 1, 1]), "promises 65,536,000,000,000"),
    BrokenInput(
        "absurd-dimensions-gz", lambda p: _repacked(_nifti(dim=[3, 9999, 9999, 99, 1, 1, 1, 1])(p)), "promises"
    ),
    BrokenInput("negative-dimension", _nifti(dim=[3, 20, -24, 6, 1, 1, 1, 1]), "impossible NIfTI header"),
    BrokenInput("nine-dimensions", _nifti(dim=[9, 20, 24, 6, 1, 1, 1, 1]), "impossible NIfTI header"),
    BrokenInput("nan-offset", _nifti(vox_offset=np.nan), "impossible NIfTI header: its voxels begin at byte nan"),
    BrokenInput("4d", _array(np.stack([body()] * 3)), "4D, of shape 20 × 24 × 6 × 3"),
    BrokenInput("4d-nrrd", _itk_4d, "4D"),
    BrokenInput("complex", _complex, "complex64"),
    BrokenInput("vector-nrrd", _vector("scan.nrrd"), "3 values per voxel"),
    BrokenInput("vector-metaimage", _vector("scan.mha"), "3 values per voxel"),
    BrokenInput("nan-voxels", _nan, "5 voxels that are NaN or infinite"),
    BrokenInput("zero-spacing", _nifti(pixdim=[1, 0, 0.7, 2.5, 0, 0, 0, 0], sform_code=0), "spacing 0 × 0.7 × 2.5 mm"),
    BrokenInput(
        "negative-spacing", _nifti(pixdim=[1, 0.7, -0.7, 2.5, 0, 0, 0, 0], sform_code=0), "spacing 0.7 × -0.7 × 2.5"
    ),
    BrokenInput(
        "nan-spacing", _nifti(pixdim=[1, 0.7, 0.7, np.nan, 0, 0, 0, 0], sform_code=0), "spacing 0.7 × 0.7 × nan"
    ),
    BrokenInput(
        "zero-spacing-metaimage", _header_text("s.mha", b"ElementSpacing = 0.5", b"ElementSpacing = 0.0"), "spacing 0 ×"
    ),
    BrokenInput("zero-spacing-nrrd", _header_text("s.nrrd", b"(0.5,0,0)", b"(0.0,0,0)"), "spacing 0 ×"),
    BrokenInput("nan-spacing-nrrd", _header_text("s.nrrd", b"(0.5,0,0)", b"(nan,0,0)"), "spacing nan ×"),
    BrokenInput("huge-nrrd", _header_text("s.nrrd", b"sizes: 20 24 6", b"sizes: 9999 9999 9999"), "promises"),
    BrokenInput("no-sizes-nrrd", _header_text("s.nrrd", b"sizes: 20 24 6", b"sizes: a b"), "sizes is `a b`"),
    BrokenInput(
        "metaimage-dimensions", _header_text("s.mha", b"NDims = 3", b"NDims = 337"), "disagree.*NDims is `337`"
    ),
    BrokenInput(
        "metaimage-short-matrix", _header_text("s.mha", b"Matrix = 1 0 0", b"Matrix = 1 0"), "TransformMatrix is"
    ),
    BrokenInput("byte-skip-nrrd", detached_nrrd("scan.raw", "byte skip: abc\n"), "byte skip is `abc`"),
    BrokenInput("line-skip-nrrd", detached_nrrd("scan.raw", "line skip: 1e400\n"), "line skip is `1e400`"),
    BrokenInput("header-size-metaimage", detached_mhd("scan.raw", "HeaderSize = abc\n"), "HeaderSize is `abc`"),
    BrokenInput("no-header-size-metaimage", detached_mhd("scan.raw", "HeaderSize =\n"), "HeaderSize is ``"),
    BrokenInput("ascii-nrrd", _text_nrrd("ascii"), "1,000,000,000 voxels, and 7 bytes of text"),
    BrokenInput("hex-nrrd", _text_nrrd("hex"), "cannot hold them"),
    BrokenInput("endless-nrrd", _bytes("scan.nhdr", b"NRRD0004\n" + b"# x\n" * 300_000), "without an end"),
    BrokenInput("twice-in-nrrd", detached_nrrd("scan.raw", "data file: /etc/hostname\n"), "states `data file` twice"),
    *(BrokenInput(f"nrrd-reads-{n}", detached_nrrd(name), expect) for n, (name, expect) in enumerate(ELSEWHERE)),
    *(BrokenInput(f"mhd-reads-{n}", detached_mhd(name), expect) for n, (name, expect) in enumerate(ELSEWHERE)),
    BrokenInput("mhd-two-data-files", detached_mhd("/etc/hostname\nElementDataFile = scan.raw"), "outside its own"),
    BrokenInput("mhd-colon", detached_mhd("scan.raw", "ElementDataFile: /etc/hostname\n"), "outside its own"),
    BrokenInput("mhd-decoy", detached_mhd("scan.raw", "Comment = ElementDataFile\n"), "not a MetaImage file"),
    BrokenInput("in-metres", _nifti(xyzt_units=1), "700 × 700 × 2500 mm .*another unit"),
    BrokenInput("in-micrometres", _nifti(xyzt_units=3), "0.0007 × 0.0007 × 0.0025 mm .*another unit"),
    BrokenInput("metres-metaimage", _header_text("s.mha", b"Spacing = 0.5", b"Spacing = 3000"), "another unit"),
    BrokenInput("half-a-pair", lambda p: _cut("scan.nii", 0.1)(p).rename(p / "scan.hdr"), "one half of a NIfTI"),
    BrokenInput("other-half", _bytes("scan.img.gz", b"x" * 90), "one half of a NIfTI"),
    BrokenInput("sheared-nifti", lambda p: _sform_only(p, _SHEARED), "not orthonormal"),
    BrokenInput("sheared-nrrd", _header_text("s.nrrd", b"(0,0.75,0)", b"(.3,0.75,0)"), "not orthonormal"),
    BrokenInput("qform-against-sform", _contradiction, "contradicts itself.*sform and qform"),
    BrokenInput("one-voxel-thin", _array(body()[:, :1]), "one voxel thin in plane: shape 20 × 1 × 6"),
    BrokenInput(
        "one-row-picture", lambda p: _save_grey(p / "row.png", np.arange(40, dtype=np.uint8)[None]), "one voxel thin"
    ),
    BrokenInput("constant", _array(np.full(SHAPE, 7, np.int16)), "constant: all 2,880 voxels are 7"),
    BrokenInput("transparent-png", _transparent, "transparent"),
    BrokenInput("truncated-png", _half_picture("picture.png"), "truncated"),
    BrokenInput("truncated-jpeg", _half_picture("picture.jpg"), "truncated"),
    BrokenInput("multipage-tiff", _pages, "3 pages"),
    BrokenInput("empty-folder", _folder(), "folder .* is empty"),
    BrokenInput("folder-without-images", _folder("notes.txt", "todo.md"), "no DICOM image among its 2 files"),
    BrokenInput("folder-of-nifti", _folder("a.nii.gz", "b.nii"), "2 image files of another format"),
    BrokenInput("two-series", _two_series, r"holds 2 image series:\n  1\. [0-9a-f]{6}: CT, 20 × 24 × 6"),
    BrokenInput("missing-slice", _series(skip=(3,)), "1 missing slice: .*5 mm"),
    BrokenInput("repeated-slice", _edited_series(_duplicate), "7 slices, 1 of them at a position"),
    BrokenInput("no-positions", _edited_series(_no_positions), "6 slices of 6 without a readable patient position"),
    BrokenInput("tilted-gantry", _edited_series(_tilted), "tilted gantry"),
    BrokenInput(
        "mixed-orientations",
        _edited_series(lambda paths: _edit(paths[0], ImageOrientationPatient=[1, 0, 0, 0, 0, -1])),
        "different orientations",
    ),
    BrokenInput("mixed-spacings", _edited_series(lambda paths: _edit(paths[0], PixelSpacing=[2, 2])), "pixel spacings"),
    BrokenInput("dicom-without-pixels", _dicom_file("scan.dcm", PixelData=None), "without pixel data"),
    BrokenInput("dicom-short-pixels", _dicom_file("scan.dcm", PixelData=b"\0" * 100), "cannot be decoded"),
    BrokenInput("dicom-zero-spacing", _dicom_file("scan.dcm", PixelSpacing=[0, 0.7]), "spacing 0.7 × 0"),
    BrokenInput(
        "dicom-bad-axes", _dicom_file("scan.dcm", ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "not perpendicular"
    ),
    BrokenInput("dicom-transfer-syntax", _strange_syntax, "cannot be decoded.*transfer syntax: MPEG2"),
    BrokenInput("rtstruct-as-image", _rtstruct, "RT structure set .*not an image"),
    BrokenInput("seg-as-image", _segmentation, "DICOM segmentation .*not an image"),
    BrokenInput("mask-missing", lambda tmp_path: tmp_path / "mask.nii.gz", "does not exist", as_mask=True),
    BrokenInput("mask-shape", _array(_mask()[:, :, :-2], "mask.nii.gz"), "shape 18 × 24 × 6", as_mask=True),
    BrokenInput("mask-origin", _array(_mask(), "mask.nii.gz", _moved(shift=3.0)), "origin", as_mask=True),
    BrokenInput(
        "mask-spacing", _array(_mask(), "mask.nii.gz", _moved(stretch=1.2)), "spacing .*× 3 instead", as_mask=True
    ),
    BrokenInput("mask-direction", _array(_mask(), "mask.nii.gz", _moved(angle=0.2)), "direction", as_mask=True),
    BrokenInput("mask-fractions", _array(_mask() * np.float32(0.5), "mask.nii.gz"), "not whole numbers", as_mask=True),
    BrokenInput("mask-negative", _array(-_mask().astype(np.int16), "mask.nii.gz"), "from -1 to 0", as_mask=True),
    BrokenInput("mask-too-large", _array(_mask() * np.int32(70000), "mask.nii.gz"), "to 70000", as_mask=True),
    BrokenInput("mask-is-the-image", _array(body(), "mask.nii.gz"), "not a label map", as_mask=True),
    BrokenInput("mask-empty", _array(_mask() * 0, "mask.nii.gz"), "empty: all 2,880 voxels are 0", as_mask=True),
    BrokenInput("mask-folder", _folder("a.txt"), "folder where a file is needed", as_mask=True),
    BrokenInput("mask-two-structures", _rtstruct, "2 drawn structures: `GTV`, `lung`", as_mask=True),
    BrokenInput("mask-broken-seg", _segmentation, "DICOM segmentation that cannot be read", as_mask=True),
]


def _repacked(path: Path) -> Path:
    packed = path.with_name("packed.nii.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return packed


def _sform_only(tmp_path: Path, affine: NDArray[np.float64]) -> Path:
    image = nib.Nifti1Image(body().T, None)
    image.set_sform(affine, code=1)
    image.set_qform(None, code=0)
    image.header["pixdim"][1:4] = [0.7, 0.7, 2.5]
    nib.save(image, tmp_path / "scan.nii")
    return tmp_path / "scan.nii"


def _save_grey(path: Path, pixels: NDArray[np.uint8]) -> Path:
    Image.fromarray(pixels).save(path)
    return path
