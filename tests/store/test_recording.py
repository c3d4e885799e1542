"""Journals of scripts: each record once, in order, whoever delivers it and however often; none is believed."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import __main__ as command_line
from store import faulty
from store.completions.rows import iter_completions, list_groups
from store.db.connection import StoreError
from store.db.engine import Store
from store.db.states import JobState
from store.evaluations.predictions import iter_predictions_of
from store.evaluations.records import list_evaluations
from store.events import list_events
from store.jobs import ask_stop, end_job, list_jobs
from store.media import files as media
from store.metrics import list_metric_names, read_series
from store.recording import folders, intake, silence, token
from store.recording.intake import Gone, Receipt, next_record_number, take
from store.recording.records import IMAGES, LINES, VERSION, Damaged, Newer
from store.runs import delete_run, get_run, list_runs, resolve_run
from tests import foreign
from tests.store import make

UID = "0123456789"
PICTURE = make.image()
HASH = media.inspect(PICTURE).sha256
PROCESS = {"host": "elsewhere", "boot_id": "b", "pid": 7, "started": 1.0}
RUN = {"name": "mine", "method": "grpo", "model": "m", "reward_weights": {"f": 2.0}, "config": {"lr": 0.1}}


def said(text: str, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"text": text, "example": "k", "index": index, "group": 0, "rewards": {"f": 0.5}, "tokens": 3, **fields}


RECORDS: list[dict[str, Any]] = [
    {"type": "begin", "version": 1, "uid": UID, "at": 5.0, "step": 0, "run": RUN, "process": PROCESS},
    {"type": "example", "key": "k", "question": "How many?", "prompt": "How many?", "gold": "4", "images": [HASH]},
    {"type": "describe", "columns": {"grammar": "ours", "style": "direct"}, "environment": {"torch": "2"}},
    {
        "type": "step",
        "step": 1,
        "at": 6.0,
        "metrics": {"loss": 0.5, "rewards/f/mean": 0.5, "num_tokens": 12.0},
        "completions": [said("<answer>4</answer>"), said("<answer>5</answer>", 1)],
    },
    {"type": "event", "kind": "note", "message": "half time", "at": 6.5},
    {"type": "step", "step": 2, "at": 7.0, "metrics": {}, "completions": [said("4", generation=1)], "means": True},
    {"type": "step", "step": 2, "at": 7.0, "metrics": {}, "completions": [said("5", generation=2)], "means": True},
    {
        "type": "evaluation",
        "step": 2,
        "name": "held out",
        "greedy": True,
        "first": 0,
        "total": 2,
        "rows": [said("<answer>4</answer>")],
    },
    {
        "type": "evaluation",
        "step": 2,
        "name": "held out",
        "greedy": True,
        "first": 1,
        "total": 2,
        "rows": [said("<answer>5</answer>", sample=1)],
    },
    {"type": "end", "state": "finished", "at": 8.0},
]


def lines(records: list[dict[str, Any]] = RECORDS) -> list[bytes]:
    return [json.dumps({"seq": number} | record).encode() for number, record in enumerate(records)]


@pytest.fixture(autouse=True, scope="module")
def patient() -> Iterator[None]:
    """A busy machine may take long for a few records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake, "TAKE_SECONDS", 600.0)
        yield


def deliver(store: Store, first: int = 0, records: list[bytes] | None = None) -> Receipt:
    answer = take(store, UID, first, lines() if records is None else records)
    if answer.missing:
        assert answer.missing == (HASH,)
        media.save(store.media, PICTURE)
        answer = take(store, UID, first, lines() if records is None else records)
    return answer


def check_whole(store: Store) -> None:
    (row,) = list_runs(store)
    run = get_run(store, row.id)
    assert (run.uid, run.name, run.status, run.step, run.created_at) == (UID, "mine", "finished", 2, 5.0)
    assert run.config == {"recorded": {"lr": 0.1}} and run.environment == {"torch": "2"}
    rows = [(each.step, each.generation, each.text, each.reward, each.correct) for each in iter_completions(store, 1)]
    assert rows == [
        (1, 0, "<answer>4</answer>", 1.0, True),
        (1, 0, "<answer>5</answer>", 1.0, False),
        (2, 1, "4", 1.0, False),
        (2, 2, "5", 1.0, False),
    ]
    (group,) = list_groups(store, row.id, 1)
    assert group.example is not None and (group.example.answer, group.example.images) == (4, (HASH,))
    curves = read_series(store, row.id, list_metric_names(store, row.id))
    values = {name: dict(zip(each.step.tolist(), each.value.tolist(), strict=True)) for name, each in curves.items()}
    assert values["loss"] == {1: 0.5} and values["reward/f"] == {1: 0.5, 2: 0.5} and values["tokens"] == {1: 12.0}
    assert values["wellformed_share"] == {1: 1.0, 2: 0.0} and values["correct_share"] == {1: 0.5, 2: 0.0}
    (evaluation,) = list_evaluations(store, row.id)
    assert (evaluation.benchmark, evaluation.step, evaluation.total, evaluation.done) == ("held out", 2, 2, 2)
    assert evaluation.metrics == {"n": 1, "exact_match": 1.0} and evaluation.ended_at
    assert len(list(iter_predictions_of(store, evaluation.id))) == 2
    kinds = [event.kind for event in list_events(store, row.id)]
    assert sorted(kinds) == ["evaluation", "finished", "launched", "note", "started"]
    assert [job.state for job in list_jobs(store)] == ["finished"]


def test_a_journal_becomes_the_run_that_it_tells_of(store: Store) -> None:
    first = take(store, UID, 0, lines())
    assert first == Receipt(1, 0, UID, (HASH,)), "images come before the record that shows them"
    answer = deliver(store)
    assert (answer.next, answer.run, answer.missing) == (len(RECORDS), UID, ())
    assert answer.ended == list_jobs(store)[0].uid
    check_whole(store)


def test_whatever_is_delivered_again_is_there_once(store: Store) -> None:
    deliver(store)
    for _ in range(3):
        assert deliver(store).next == len(RECORDS)
    check_whole(store)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(windows=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=12), killed=st.integers(0, 12))
def test_any_order_of_deliveries_comes_to_the_same(
    windows: list[tuple[int, int]], killed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A sender knows at most how far it has come; a server that was killed knows one record less than it stored."""
    from sqlalchemy import update

    from store.db.connection import writing
    from store.db.engine import open_store
    from store.db.schema import Journal

    store = open_store(str(tmp_path_factory.mktemp("any") / "runs.db"))
    for place, (first, count) in enumerate(windows):
        answer = deliver(store, first, lines()[first : first + count])
        assert answer.next <= len(RECORDS)
        idempotent = answer.next > 1 and RECORDS[answer.next - 1]["type"] != "event"  # those move the number with them
        if place == killed and idempotent:
            with writing(store) as connection:
                connection.execute(update(Journal).values(next=answer.next - 1))
    deliver(store)
    kinds = [event.kind for event in list_events(store, 1)]
    if kinds.count("evaluation") == 1 and kinds.count("resumed") == 0:
        check_whole(store)
    assert kinds.count("note") == 1 and len(list(iter_completions(store, 1))) == 4
    store.close()


def test_what_takes_long_is_taken_in_parts(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "TAKE_SECONDS", 0.0)
    media.save(store.media, PICTURE)
    assert [take(store, UID, 0, lines()).next for _ in range(3)] == [1, 2, 3]
    [taken] = folders.sync(store, [folder(tmp_path)])
    assert taken.new == len(RECORDS) - 3
    check_whole(store)


def test_a_gap_is_counted_and_the_rest_goes_on(store: Store) -> None:
    kept = lines()
    del kept[3]
    assert deliver(store, 0, kept).next == len(RECORDS)
    told = [event.message for event in list_events(store, 1) if event.kind == "recording_failed"]
    assert told == ["1 records were lost because they are damaged in the journal."]
    assert {row.step for row in iter_completions(store, 1)} == {2}


@pytest.mark.parametrize(
    "change",
    [
        {"step": -1},
        {"step": 2**40},
        {"step": "1; DROP TABLE run"},
        {"metrics": {"x" * 500: 1.0}},
        {"metrics": {"loss": 1e300}},
        {"metrics": {"loss": "much"}},
        {"completions": [{"text": 5}]},
        {"completions": [said("a", rewards={"f": {}})]},
        {"completions": [said("a", tokens=-1)]},
        {"type": "nothing"},
        {"at": -5},
    ],
    ids=str,
)
def test_a_record_that_cannot_be_is_left_out_and_said(change: dict[str, Any], store: Store) -> None:
    records = [*RECORDS[:3], RECORDS[3] | change, *RECORDS[4:]]
    assert deliver(store, 0, lines(records)).next == len(RECORDS)
    (told,) = [event.message for event in list_events(store, 1) if event.kind == "recording_failed"]
    assert told.startswith("A record cannot be read (")
    assert {row.step for row in iter_completions(store, 1)} == {2} and get_run(store, 1).status == "finished"


@pytest.mark.parametrize("text", ["", "{}", "[1]", "null", '{"seq": 0, "type": "step", "step": 1}', "[" * 99_999, "é"])
def test_what_does_not_begin_a_journal_is_refused(text: str, store: Store) -> None:
    with pytest.raises(Damaged):
        take(store, UID, 0, [text.encode()])
    assert list_runs(store) == []


def test_a_newer_journal_is_refused_in_a_sentence(store: Store) -> None:
    newer = lines([RECORDS[0] | {"version": VERSION + 1}])
    with pytest.raises(Newer, match="Upgrade the dashboard, then import the journal with `python -m store sync`"):
        take(store, UID, 0, newer)
    assert list_runs(store) == []


def test_unknown_fields_of_a_newer_recorder_do_no_harm(store: Store) -> None:
    assert deliver(store, 0, lines([record | {"colour": "red"} for record in RECORDS])).next == len(RECORDS)
    check_whole(store)


def test_another_journal_under_this_name_is_refused(store: Store) -> None:
    with pytest.raises(Damaged, match="journal 0123456789, not another"):
        take(store, "another", 0, lines())


def test_a_deleted_run_does_not_come_back(store: Store, tmp_path: Path) -> None:
    deliver(store, 0, lines()[:5])
    end_job(store, list_jobs(store)[0].id, JobState.LOST)
    delete_run(store, 1)
    with pytest.raises(Gone, match="deleted"):
        deliver(store)
    (taken,) = folders.sync(store, [folder(tmp_path)])
    assert taken.problem is not None and "deleted" in taken.problem and list_runs(store) == []


def test_stop_is_said_to_who_delivers(store: Store) -> None:
    deliver(store, 0, lines()[:4])
    assert take(store, UID, 4, []).stop == 0
    ask_stop(store, list_jobs(store)[0].id)
    assert take(store, UID, 4, []).stop == 1
    beats = list_jobs(store)[0].heartbeat
    assert take(store, UID, 4, [], is_alive=False).stop == 0
    assert list_jobs(store)[0].heartbeat == beats, "who reads a folder is no sign of life"


def test_what_the_script_says_of_its_end_is_truer_than_its_silence(store: Store) -> None:
    deliver(store, 0, lines()[:4])
    end_job(store, list_jobs(store)[0].id, JobState.KILLED, error="The process is gone.")
    deliver(store)
    (job,) = list_jobs(store)
    assert (job.state, job.error) == ("finished", None)


def test_a_script_that_fell_silent_is_told_from_one_that_runs(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    deliver(store, 0, lines()[:4])
    now += silence.SILENT_SECONDS + 1
    assert silence.silent_since(list_runs(store)[0], now) == 1_000_000.0
    assert silence.job_silent_since(list_jobs(store)[0], now) == 1_000_000.0
    assert command_line.main(["runs", "--db", store.url]) == 0
    told = capsys.readouterr()
    assert "silent since 1970-01-12 13:46 UTC" in told.out and "python -m store sync FOLDER" in told.err
    assert command_line.main(["runs", "--json", "--db", store.url]) == 0
    assert json.loads(capsys.readouterr().out)[0]["silent_since"] == 1_000_000.0
    take(store, UID, 4, [])
    assert silence.silent_since(list_runs(store)[0], now) is None, "a sign of life without news"
    deliver(store)
    assert silence.silent_since(list_runs(store)[0], now + 9e9) is None, "it ended"


def test_a_journal_that_is_taken_in_later_tells_its_own_times(store: Store, tmp_path: Path) -> None:
    """Silent since its last line, whenever that is taken in; ended when it says so."""
    place = folder(tmp_path, lines()[:-1])
    folders.sync(store, [place])
    (run,) = list_runs(store)
    assert (run.status, run.started_at, silence.silent_since(run, 100.0)) == ("running", 5.0, 7.0)
    with (place / LINES).open("wb") as file:
        file.write(b"".join(line + b"\n" for line in lines()))
    folders.sync(store, [place])
    (run,) = list_runs(store)
    assert (run.status, run.started_at, run.ended_at) == ("finished", 5.0, 8.0)
    assert [event.at for event in list_events(store, run.id) if event.kind == "finished"] == [8.0]


def folder(tmp_path: Path, records: list[bytes] | None = None) -> Path:
    """A journal as a script leaves it, killed in the middle of a line."""
    place = tmp_path / "out" / f"vr1z-{UID}"
    (place / IMAGES).mkdir(parents=True)
    (place / IMAGES / HASH).write_bytes(PICTURE)
    (place / LINES).write_bytes(b"".join(line + b"\n" for line in records or lines()) + b'{"seq": 10, "ty')
    return place


def test_a_folder_is_taken_in_whatever_was_delivered_before(store: Store, tmp_path: Path) -> None:
    deliver(store, 0, lines()[:4])
    folder(tmp_path)
    [taken] = folders.sync(store, [tmp_path])
    assert (taken.run, taken.new, taken.problem) == (UID, 6, None)
    [taken] = folders.sync(store, [tmp_path / "out" / f"vr1z-{UID}" / LINES])
    assert (taken.run, taken.new) == (UID, 0)
    check_whole(store)


def test_an_image_that_is_gone_costs_only_itself(store: Store, tmp_path: Path) -> None:
    place = folder(tmp_path)
    (place / IMAGES / HASH).write_bytes(b"\x89PNG damaged")
    [taken] = folders.sync(store, [tmp_path])
    assert taken.new == len(RECORDS) and taken.problem == "1 images are missing or damaged."
    (group,) = list_groups(store, 1, 1)
    assert group.example is not None and group.example.images == ()


def test_a_folder_without_a_journal_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has no journal"):
        folders.sync(store, [tmp_path])
    place = folder(tmp_path, [b"nothing"])
    [taken] = folders.sync(store, [place])
    assert taken.problem and not taken.run


def test_another_folder_of_the_same_run_is_the_same_run(store: Store, tmp_path: Path) -> None:
    place = folder(tmp_path)
    copy = shutil.copytree(place, tmp_path / "copies" / "vr1z-renamed")
    assert sum(taken.new for taken in folders.sync(store, [place, copy])) == len(RECORDS)
    check_whole(store)


def test_a_resumed_script_goes_on_with_the_run_of_its_folder(store: Store) -> None:
    run = RUN | {"output_dir": "/out"}
    deliver(store, 0, lines([RECORDS[0] | {"run": run}, *RECORDS[1:7]]))
    again = [RECORDS[0] | {"run": run, "step": 1, "uid": "again", "process": PROCESS | {"pid": 8}}, RECORDS[9]]
    answer = take(store, "again", 0, lines(again))
    assert answer.run == UID and [row.step for row in iter_completions(store, 1)] == [1, 1]
    assert [job.state for job in list_jobs(store)] == ["lost", "finished"]
    assert resolve_run(store, "mine") == 1


def test_the_token_is_for_this_account_alone(store: Store) -> None:
    value = token.token_of(store)
    assert len(value) >= 32 and token.token_of(store) == value and token.is_right(store, value)
    assert not token.is_right(store, "") and not token.is_right(store, "é" * 48)
    path = token.path_of(store)
    assert path.stat().st_mode & 0o077 == 0
    path.chmod(0o644)
    with pytest.raises(StoreError, match="can be read by other users"):
        token.token_of(store)
    path.unlink()
    assert token.token_of(store) != value and os.listdir(path.parent).count(token.NAME) == 1


def test_arrived_is_where_a_journal_stands(store: Store) -> None:
    assert next_record_number(store, UID) == 0
    deliver(store, 0, lines()[:4])
    assert next_record_number(store, UID) == 4


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something can be put in place of a part of JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in inner:
        yield (*path, name)
        yield from places(item, (*path, name))


ODD = [
    *(each for each in foreign.ODD if not isinstance(each, bytes)),
    *([], {}, [[1]], {"a": 1e308}, {"a": 10**400}, {"\0": 1}, {"x" * 300: 1.0}, {"": 1.0}, True, "\ud800"),
    *(json.loads("[" * deep + "]" * deep) for deep in (39, 40, 60, 400)),
]
FIELDS = [(record, path) for record in range(len(RECORDS)) for path in places(RECORDS[record]) if path != ("uid",)]


def test_nothing_that_a_journal_says_makes_a_row_that_cannot_be_shown(store: Store, tmp_path: Path) -> None:
    """Each field of each record is exchanged for an odd value."""
    media.save(store.media, PICTURE)
    order = random.Random(1)
    told = [(*field, order.choice(ODD)) for field in FIELDS]
    told += [(0, ("run", "config"), {"a": 1e308}), (2, ("environment",), {"a": [[1e308]]}), (1, ("gold",), 1e308)]
    for number, (record, path, odd) in enumerate(told):
        changed = copy.deepcopy(RECORDS)
        place: Any = changed[record]
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = odd
        changed[0]["uid"] = f"m{number}"
        with suppress(Damaged, Newer):
            take(store, f"m{number}", 0, lines(changed))
    assert faulty.find(store) is None
    assert len(list_runs(store)) > len(told) / 2 and not [run.broken for run in list_runs(store) if run.broken]
