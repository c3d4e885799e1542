"""What users of other dashboards and trainers complain of, and the tests that keep it from happening here."""

from __future__ import annotations

CASES = (
    (
        "“database is locked” with a trainer and a page at the same time",
        "tests/store/test_processes.py::test_four_trainers_and_ten_readers_never_find_the_database_locked",
    ),
    (
        "two processes that start together upgrade the database twice",
        "tests/store/test_upgrade.py::test_processes_that_start_at_once_take_turns",
    ),
    (
        "dead runs are shown as running",
        "tests/faults/test_faults.py::test_a_killed_trainer_is_shown_as_killed_loses_no_step_and_resumes",
    ),
    (
        "runs stay in “stopping” forever",
        "tests/launch/test_queue.py::test_a_stop_works_when_the_process_is_gone_already",
    ),
    (
        "one stuck row clogs the queue",
        "tests/launch/test_queue.py::test_a_job_that_was_claimed_and_never_started_does_not_clog_the_queue",
    ),
    (
        "a run counts as finished after an exception",
        "tests/launch/test_queue.py::test_a_process_that_ends_without_a_word_has_not_finished",
    ),
    (
        "killed, crashed and finished look alike",
        "tests/launch/test_endings.py::test_every_way_to_end_is_told_apart",
    ),
    (
        "the page of a crashed run does not show its error",
        "tests/pages/test_run.py::test_a_failed_run_says_what_happened_and_what_to_do",
    ),
    (
        "reloading the page loses the progress",
        "tests/pages/test_run.py::test_a_page_opened_anew_shows_the_same_progress",
    ),
    (
        "training pauses when the browser or the dashboard is closed",
        "tests/faults/test_faults.py::test_training_goes_on_when_the_dashboard_is_killed",
    ),
    (
        "logging many samples slows training and increases its memory",
        "tests/training/test_record.py::test_recording_many_completions_keeps_none_of_them_in_memory",
    ),
    (
        "a queued run shows neither its place nor its expected start",
        "tests/pages/test_runs.py::test_what_waits_shows_its_place_and_its_expected_start",
    ),
    (
        "exports and logs leak a token",
        "tests/store/test_redaction.py::test_nothing_that_is_kept_of_a_run_holds_a_token",
    ),
    (
        "a database on a network file system gets damaged",
        "tests/store/test_engine.py::test_a_network_file_system_is_refused",
    ),
)
"""Complaint and test."""
