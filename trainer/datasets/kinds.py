"""Recognise a file's type by its first bytes, so that errors can name it."""

from __future__ import annotations

import re

LFS = "a Git LFS pointer: run git lfs pull"
ANNEX = "a git-annex pointer: run git annex get"
EMPTY = "empty: download it again"
PAGE = "a web page: download the file itself"
HEAD = 512
"""Number of bytes to read."""

_CONVERT = ": convert it to JPEG or PNG"
_VIDEO = "a video: extract a frame as JPEG or PNG"
_ARCHIVE = ": unpack it"
_SIGNATURES: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), kind)
    for pattern, kind in (
        (rb"version https://git-lfs\.github\.com/spec/", LFS),
        (rb"(?:\.\./)*/?(?:\.git/)?annex/objects/", ANNEX),
        (rb".{4}ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", "a HEIC file" + _CONVERT),
        (rb".{4}ftypcrx |FUJIFILMCCD-RAW|IIR[OS]|IIU\0", "a camera's raw file" + _CONVERT),
        (rb".{4}ftypavi[fs]", "an AVIF file that cannot be decoded: download it again, or convert it to JPEG or PNG"),
        (rb".{4}ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI |\0\0\x01[\xba\xb3]", _VIDEO),
        (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL file" + _CONVERT),
        (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 file" + _CONVERT),
        (rb"8BPS", "a Photoshop file" + _CONVERT),
        (rb"gimp xcf", "a GIMP file" + _CONVERT),
        (rb"%PDF", "a PDF file" + _CONVERT),
        (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript file" + _CONVERT),
        (rb"\s*(?:<\?xml.*)?(?:<!--.*)?(?:<!DOCTYPE svg.*)?<svg", "an SVG drawing" + _CONVERT),
        (rb"(?i)\s*(?:<!doctype html|<html|<head)", PAGE),
        (rb"\0\0\x01\0[^\0]", "an ICO file" + _CONVERT),
        (rb"\0\0\x02\0[^\0]", "a CUR file" + _CONVERT),
        (rb"icns", "an ICNS file" + _CONVERT),
        (rb"DDS ", "a DDS file" + _CONVERT),
        (rb"qoif", "a QOI file" + _CONVERT),
        (rb"BLP[12]", "a BLP file" + _CONVERT),
        (rb"\x01\xda[\0\x01][\x01\x02]", "an SGI file" + _CONVERT),
        (rb"\x59\xa6\x6a\x95", "a Sun raster file" + _CONVERT),
        (rb"v/1\x01", "an OpenEXR file" + _CONVERT),
        (rb"#\?R(?:ADIANCE|GBE)", "a Radiance HDR file" + _CONVERT),
        (rb"SIMPLE  =", "a FITS file" + _CONVERT),
        (rb"\x93NUMPY", "a NumPy file" + _CONVERT),
        (rb"\x89HDF", "an HDF5 file" + _CONVERT),
        (rb".{128}DICM", "a DICOM file" + _CONVERT),
        (rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF", "a Windows metafile" + _CONVERT),
        (rb"\xd0\xcf\x11\xe0", "an old Office file: save it as CSV"),
        (rb"PK\x03\x04", "a ZIP archive or an Excel workbook: unpack it, or save it as CSV"),
        (rb"\x1f\x8b|BZh|\xfd7zXZ\0|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", "a compressed file" + _ARCHIVE),
    )
)
_PICTURES = (
    (re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"), "a TIFF file of a kind that cannot be decoded" + _CONVERT),
    (re.compile(rb"P[1-7fF]\s"), "a netpbm file of a kind that cannot be decoded" + _CONVERT),
)
_TGA_FOOT = b"TRUEVISION-XFILE.\0"


def of(head: bytes, foot: bytes = b"") -> str | None:
    """Return a phrase such as `a HEIC file: convert it to JPEG or PNG`, or None for unknown bytes."""
    if not head:
        return EMPTY
    for pattern, kind in (*_SIGNATURES, *_PICTURES):
        if pattern.match(head):
            return kind
    return "a TGA file" + _CONVERT if foot.endswith(_TGA_FOOT) else None


def pointer(head: bytes) -> str | None:
    """Return the kind of placeholder for a large file (such as a Git LFS pointer), if the bytes are one."""
    kind = of(head)
    return kind if kind in (LFS, ANNEX) else None
