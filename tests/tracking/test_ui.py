"""The command behind ``make ui``."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapter_exp.tracking.ui import main, server_command


def test_the_page_is_served_on_this_machine_only(tmp_path: Path):
    command = server_command(tmp_path, 5001)
    settings = dict(zip(command[4::2], command[5::2], strict=True))
    assert settings["--backend-store-uri"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert (settings["--host"], settings["--port"], settings["--workers"]) == ("127.0.0.1", "5001", "1")


def test_a_folder_without_a_usable_database_is_one_line(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    (tmp_path / "mlflow.db").write_text("notes")
    with pytest.raises(SystemExit) as caught:
        main(["--root", str(tmp_path)])
    assert caught.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1
