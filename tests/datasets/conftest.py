"""Copies that the datasets library makes of parquet files stay in the test's own folder."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Also for processes that a test starts."""
    folder = tmp_path_factory.mktemp("hf")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "datasets"))
    return folder
