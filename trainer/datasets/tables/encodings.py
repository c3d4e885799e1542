"""Detect the encoding of a text file: UTF-8, UTF-16, or a Windows code page."""

from __future__ import annotations

import codecs
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from trainer.datasets import kinds
from trainer.spec.errors import TrainerError

CHUNK = 1024**2
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LATIN = ("cp1252", "cp1250")
_OTHERS = ["cp1251", "cp1253", "cp1255", "cp1256", "cp874", "cp932", "gb18030", "cp949", "big5hkscs"]
_WORD = re.compile(rb"[A-Za-z\x80-\xff]+")
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")
"""Full-width kana, which only Japanese has; the library takes short Japanese texts for Korean ones."""
_IN_WORD = re.compile(r"(?<=[^\W\d_])(?:[^\w\s\x00-\x7f\u2010-\u2026]|[\u00b2\u00b3\u00b9])(?=[^\W\d_])")
"""A symbol between letters, as in Polish or Czech text that is read as Western European."""


class Encoding(NamedTuple):
    """`note` is a sentence about a guess."""

    codec: str
    note: str = ""


def of(path: Path) -> Encoding:
    """Return an encoding in which the whole file can be read. Raises TrainerError, also for a Git LFS pointer."""
    try:
        status = path.stat()
        return _of(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise TrainerError("data", f"Cannot read {path}: {error.strerror}. Check data.path.") from None


@lru_cache(64)
def _of(path: Path, size: int, changed: int) -> Encoding:
    with path.open("rb") as file:
        head = file.read(4096)
    if pointer := kinds.pointer(head):
        raise TrainerError("data", f"{path} is {pointer}.")
    for mark, codec in _MARKS:
        if head.startswith(mark):
            if _is_decoded_by(path, codec):
                return Encoding(codec)
            raise TrainerError(
                "data", f"{path} is damaged: it begins as {codec.upper()} but is not valid. Download it again."
            )
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) // 8:
        codec = "utf-16-le" if odd > even else "utf-16-be"
        if _is_decoded_by(path, codec):
            return Encoding(codec)
        raise TrainerError("data", f"{path} is not a text file. Check data.path.")
    if _is_decoded_by(path, "utf-8"):
        return Encoding("utf-8")
    page = _code_page(_sample(path))
    if page is None or not _is_decoded_by(path, page):
        raise TrainerError("data", f"The encoding of {path} cannot be detected. Save it as UTF-8.")
    windows = page.replace("cp", "Windows-") if page.startswith("cp125") else page
    return Encoding(page, f"{path.name} is not UTF-8 and was read as {windows}. Save it as UTF-8 if letters are wrong.")


def _is_decoded_by(path: Path, codec: str) -> bool:
    decoder = codecs.getincrementaldecoder(codec)()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _sample(path: Path) -> bytes:
    """Return enough lines with non-ASCII characters for a guess."""
    sample = b""
    with path.open("rb") as file:
        while len(sample) < 65536 and (line := file.readline(CHUNK)):
            if not line.isascii():
                sample += line
    return sample


def _code_page(sample: bytes) -> str | None:
    """Guess a code page. Words with ASCII letters are Western or Central European; others are in another script."""
    words = b"".join(word for word in _WORD.findall(sample) if not word.isascii())
    if sum(letter >= 0x80 for letter in words) > 0.75 * len(words):
        japanese = _decoded(sample, "cp932") or ""
        if len(_KANA.findall(japanese)) > 0.05 * len(japanese):
            return "cp932"
        # The library distinguishes scripts well, but languages of the same script badly.
        from charset_normalizer import from_bytes

        if best := from_bytes(sample, cp_isolation=_OTHERS).best():
            return best.encoding
    read = {codec: text for codec in _LATIN if (text := _decoded(sample, codec)) is not None}
    return min(read, key=lambda codec: len(_IN_WORD.findall(read[codec])), default=None)


def _decoded(sample: bytes, codec: str) -> str | None:
    try:
        return sample.decode(codec)
    except UnicodeDecodeError:
        return None
