"""Images on a shared folder and at URLs: written once and whole by many, checked when they are read from afar."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from store.__main__ import main
from store.care import orphans, transfer
from store.db.bucket import Bucket, open_bucket
from store.db.connection import StoreError
from store.db.engine import MEDIA_VARIABLE, open_store
from store.examples import add_examples, get_examples
from store.media import files
from store.media.rows import media_path
from store.runs import delete_run
from store.steps import record_step
from tests.store import make

LONG_AGO = time.time() - 2 * files.SETTLED_SECONDS
WRITER = """
import sys
from pathlib import Path
from store.media import files as media
from store.db.bucket import open_bucket
images = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]
afar = sys.argv[2]
place = open_bucket(afar, Path(sys.argv[3])) if "://" in afar else Path(afar)
print("ready", flush=True)
sys.stdin.readline()
for data in images:
    media.save(place, data)
"""


def noise(seed: int) -> bytes:
    """A PNG of about 190 kB, which takes several writes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (250, 250, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture(params=["file", "memory"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bucket]:
    url = f"{request.param}://{tmp_path}/afar"
    yield open_bucket(url, tmp_path / "cache")
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Bucket]:
    """What a real web server hands out of the folder `afar`."""
    (tmp_path / "afar").mkdir()
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path / "afar")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield open_bucket(f"http://127.0.0.1:{server.server_port}", tmp_path / "cache")
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_image_at_a_url_comes_back_through_the_cache_of_another_machine(bucket: Bucket, tmp_path: Path) -> None:
    data = make.image()
    sha256 = files.save(bucket, data).sha256
    other = replace(bucket, cache=tmp_path / "other")
    path = files.local(other, sha256)
    assert path.read_bytes() == data and path.is_relative_to(tmp_path / "other")
    bucket.remove([files.name_of(sha256)])
    assert files.local(other, sha256) == path
    with pytest.raises(files.Lost, match="is missing"):
        files.content(other, sha256)


def test_what_is_there_is_not_written_again_unless_only_the_cache_has_it(tmp_path: Path) -> None:
    bucket = open_bucket(f"file://{tmp_path}/afar", tmp_path / "cache")
    sha256 = files.save(bucket, make.image()).sha256
    file = files.path_of(tmp_path / "afar", sha256)
    before = file.stat()
    files.save(bucket, make.image())
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    file.unlink()
    files.save(bucket, make.image())
    assert file.read_bytes() == make.image()
    assert [path.name for path in file.parent.iterdir()] == [sha256]


def test_a_damaged_image_is_neither_kept_nor_handed_on(bucket: Bucket, tmp_path: Path) -> None:
    sha256 = files.save(bucket, make.image()).sha256
    bucket.put(files.name_of(sha256), make.image("blue"))
    other = replace(bucket, cache=tmp_path / "other")
    with pytest.raises(files.Lost, match="is damaged"):
        files.local(other, sha256)
    assert not other.cache.exists()
    assert files.copy(bucket, tmp_path / "copy", [sha256]) == (0, 1)


def test_a_copy_mends_what_is_damaged_and_names_what_is_lost(bucket: Bucket, tmp_path: Path) -> None:
    first, second = (files.save(tmp_path / "good", make.image(color)).sha256 for color in ("red", "blue"))
    bucket.put(files.name_of(first), b"rot")
    assert files.copy(tmp_path / "good", bucket, [first, second, "0" * 64]) == (2, 1)
    assert files.content(bucket, first) == make.image("red")


def test_strays_are_found_once_they_are_settled(bucket: Bucket, tmp_path: Path) -> None:
    known = files.save(bucket, make.image()).sha256
    for name in ("aa/" + "a" * 64, "aa/.half", "aa/notes.txt", "bb/" + "b" * 64, "other/.half"):
        bucket.put(name, b"xy")
    assert list(files.strays(bucket, {known})) == []
    system, root = bucket._opened
    for name in ("aa/" + "a" * 64, "aa/.half", "aa/notes.txt", "other/.half", files.name_of(known)):
        if bucket.url.startswith("memory"):
            system.store[f"{root}/{name}"].modified = system.modified(f"{root}/{name}").replace(year=2020)
        else:
            os.utime(f"{root}/{name}", (LONG_AGO, LONG_AGO))
    found = list(files.strays(bucket, {known}))
    assert [file.name for file in found] == ["aa/.half", "aa/" + "a" * 64]
    assert (found[0].address, found[0].size) == (f"{bucket.url}/aa/.half", 2)
    files.remove(bucket, [*(file.name for file in found), "cc/gone"])
    assert sorted(file.name for file in bucket.listed()) == sorted(
        ["aa/notes.txt", "bb/" + "b" * 64, "other/.half", files.name_of(known)]
    )


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_processes_that_write_the_same_images_leave_only_whole_ones(tmp_path: Path, scheme: str) -> None:
    afar = tmp_path / "afar"
    afar.mkdir(mode=0o750)
    (tmp_path / "images").mkdir()
    for seed in range(12):
        (tmp_path / "images" / f"{seed:02}").write_bytes(noise(seed))
    commands = [
        [sys.executable, "-c", WRITER, str(tmp_path / "images"), f"{scheme}{afar}", str(tmp_path / name)]
        for name in ("first", "second", "third")
    ]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "umask": 0o027}
    with ExitStack() as stack:
        writers = [stack.enter_context(subprocess.Popen(command, **pipes)) for command in commands]  # type: ignore[call-overload]
        for writer in writers:
            assert writer.stdout.readline() == b"ready\n"
        for writer in writers:
            writer.stdin.write(b"go\n")
            writer.stdin.flush()
        seen = 0
        while any(writer.poll() is None for writer in writers):
            if seen >= 6:
                writers[0].kill()
            seen = check(afar)
    assert [writer.returncode for writer in writers][1:] == [0, 0]
    assert check(afar) == 12


def check(folder: Path) -> int:
    """How many images are there; each must be what its name says, and readable by the group that shares the folder."""
    found = list(folder.glob("??/" + "[0-9a-f]" * 64))
    for path in found:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        assert path.stat().st_mode & 0o777 == 0o640
    return len(found)


def test_a_real_server_hands_out_images_that_are_checked(served: Bucket, tmp_path: Path) -> None:
    good, bad = (files.save(tmp_path / "afar", make.image(color)).sha256 for color in ("red", "blue"))
    files.path_of(tmp_path / "afar", bad).write_bytes(b"rot")
    assert files.local(served, good).read_bytes() == make.image("red")
    with pytest.raises(files.Lost, match="is damaged"):
        files.local(served, bad)
    with pytest.raises(files.Lost, match="is missing"):
        files.local(served, "0" * 64)


def test_a_place_that_cannot_be_written_says_so(served: Bucket) -> None:
    with pytest.raises(StoreError, match=r"cannot be used \(501"):
        files.save(served, make.image())


def test_a_place_that_does_not_answer_is_not_taken_for_a_lost_image(tmp_path: Path) -> None:
    nobody = open_bucket("http://127.0.0.1:1/images", tmp_path / "cache")
    with pytest.raises(
        StoreError, match=r"http://127.0.0.1:1/images cannot be used \(.+\). Check that it can be reached"
    ) as caught:
        files.copy(nobody, tmp_path / "copy", ["0" * 64])
    assert not isinstance(caught.value, files.Lost)


@pytest.mark.skipif(sys.platform != "linux", reason="nobody may write to /sys, root neither")
def test_a_refused_account_is_told_to_look_at_its_keys(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"file:///sys/images was denied. Check the keys"):
        files.save(open_bucket("file:///sys/images/", tmp_path / "cache"), make.image())


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s4://bucket/images", "not supported for images. Use a folder, or a URL such as s3://"),
        ("dropbox://folder", "No driver for dropbox://"),
        ("memory://", "names no bucket or folder"),
        ("s3://me:sesame@bucket/images", "password or a query"),
        ("s3://me:ses/ame@bucket", "password or a query"),
        ("https://host/images?sig=sesame", "password or a query"),
    ],
)
def test_a_url_that_cannot_serve_is_refused_when_the_database_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, says: str
) -> None:
    monkeypatch.setenv(MEDIA_VARIABLE, url)
    with pytest.raises(StoreError, match=says) as caught:
        open_store(str(tmp_path / "runs.db"))
    assert "ame" not in str(caught.value).replace("name", "")
    assert not (tmp_path / "runs.db").exists()


def test_every_command_works_with_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"file://{tmp_path}/afar"
    monkeypatch.setenv(MEDIA_VARIABLE, url)
    database = str(tmp_path / "runs.db")
    store = open_store(database)
    run = make.run(store)
    (example,) = add_examples(store, [make.example()])
    record_step(store, run.id, 1, {"reward": 0.5}, at=1.0, completions=[make.completion(example_id=example)])
    sha256 = get_examples(store, [example])[example].images[0]
    assert str(store.media) == url and media_path(store, sha256).parent.parent == tmp_path / "runs-media-cache"

    for command in (["backup", f"{tmp_path}/copy"], ["export-run", run.uid, f"{tmp_path}/run.zip"]):
        assert main([*command, "--db", database]) == 0
    assert main(["copy", database, f"{tmp_path}/moved.db", "--media", f"file://{tmp_path}/moved"]) == 0
    assert files.content(tmp_path / "moved", sha256) == files.content(tmp_path / "copy/vision-r1-zero-media", sha256)

    delete_run(store, run.id)
    assert main(["orphans", "--remove", "--db", database]) == 0
    assert not orphans.find(store).any and not list((tmp_path / "afar").glob("*/*"))
    with pytest.raises(files.Lost):
        media_path(store, sha256)
    transfer.import_runs(store, tmp_path / "run.zip")
    assert files.content(tmp_path / "afar", sha256)
    store.close()

    monkeypatch.setenv(MEDIA_VARIABLE, f"file://{tmp_path}/restored")
    assert main(["restore", f"{tmp_path}/copy", "--db", f"{tmp_path}/restored.db"]) == 0
    assert files.content(tmp_path / "restored", sha256)
