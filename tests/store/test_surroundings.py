"""What surrounds curves: the code of runs without its secrets, readings of machines, and saved views."""

from __future__ import annotations

import numpy as np
import pytest

from store.db.connection import StoreError
from store.db.engine import Store
from store.surroundings.code import Source, add_code, by_file, read_code, without_secrets
from store.surroundings.machine import add_samples, read_machine
from store.views import delete_view, list_views, save_view
from tests.store import make

DIFF = """diff --git a/trainer/a.py b/trainer/a.py
index 1..2 100644
--- a/trainer/a.py
+++ b/trainer/a.py
@@ -1,3 +1,3 @@
 steps = 3
-api_key = "was-a-secret-value"
+api_key = "now-a-secret-value"
+rate = 0.1
diff --git a/b.py b/b.py
--- a/b.py
+++ b/b.py
@@ -1,4 +0,0 @@
------BEGIN PRIVATE KEY-----
-MIIEvQIBADANBgkqhkiG9w0BAQEFAASC
------END PRIVATE KEY-----
-plain = 1"""


def test_code_is_kept_once_for_each_state_and_without_secrets(store: Store) -> None:
    run, other = make.run(store), make.run(store, "other")
    source = Source("a" * 40, ("trainer/a.py", "b.py"), DIFF)
    add_code(store, run.id, source)
    add_code(store, run.id, source)
    add_code(store, run.id, Source("b" * 40))
    first, second = read_code(store, [run.id, other.id])[run.id]
    assert read_code(store, [other.id])[other.id] == []
    assert (second.source.revision, second.source.difference, second.source.changed) == ("b" * 40, "", ())
    kept = first.source.difference
    for secret in ("was-a-secret-value", "now-a-secret-value", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"):
        assert secret not in kept
    assert "+rate = 0.1" in kept and "-plain = 1" in kept and "-api_key = " in kept
    assert list(by_file(kept)) == ["trainer/a.py", "b.py"]


def test_a_diff_without_secrets_stays_as_it_is() -> None:
    plain = "diff --git a/x b/x\n@@ -1 +1,2 @@\n-a\n+b\n+\n c\n\\ No newline at end of file"
    assert without_secrets(plain) == plain


def test_readings_are_thinned_with_their_extremes(store: Store) -> None:
    run = make.run(store)
    assert read_machine(store, run.id) == {}
    for second in range(100):
        power = 300.0 if second == 50 else 100.0
        add_samples(store, run.id, 1000.0 + second, {"cpu": 1.0, "gpu0/power": power, "broken": float("nan")})
    found = read_machine(store, run.id, points=10)
    assert set(found) == {"cpu", "gpu0/power"}
    power = found["gpu0/power"]
    assert 10 <= len(power.at) <= 11 and power.high.max() == 300 and power.low.min() == 100
    assert np.all(np.diff(power.at) > 0) and 100 < power.mean.max() < 300
    whole = read_machine(store, run.id)
    assert len(whole["cpu"].at) == 100 and whole["cpu"].at[0] == 1000.0


def test_views_are_saved_replaced_and_deleted_by_page(store: Store) -> None:
    save_view(store, "curves", " by arm ", "group=arm")
    save_view(store, "curves", "a view", "find=%25")
    save_view(store, "runs", "by arm", "table=Values")
    save_view(store, "curves", "by arm", "group=arm&band=x")
    assert list_views(store, "curves") == {"a view": "find=%25", "by arm": "group=arm&band=x"}
    delete_view(store, "curves", "by arm")
    assert list(list_views(store, "curves")) == ["a view"] and list(list_views(store, "runs")) == ["by arm"]
    for name in ("", "  ", "x" * 101):
        with pytest.raises(StoreError, match="The name of a view"):
            save_view(store, "curves", name, "")
    with pytest.raises(StoreError, match="too many single runs"):
        save_view(store, "curves", "long", "r" * 20_001)
