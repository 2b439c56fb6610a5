"""What an import leaves in a models folder when it is stopped, and the lock of imports over the network."""

import os
from pathlib import Path

from infermesh_runtime.importing.models_folder import (
    DOWNLOAD_LOCK,
    clear_after_cancel,
    folder_id,
    staging_folder,
    take_network_lock,
    try_lock,
)


def test_what_others_work_on_stays(tmp_path: Path) -> None:
    downloads = tmp_path / ".downloads"
    for name in ("before", "gone on with", "new", "of another", "older still"):
        (downloads / name).mkdir(parents=True)
    (downloads / "before" / DOWNLOAD_LOCK).touch()
    (downloads / "gone on with" / DOWNLOAD_LOCK).touch()
    for name in ("before", "gone on with"):
        os.utime(downloads / name / DOWNLOAD_LOCK, (1, 1))
    (tmp_path / ".import-m-abc").mkdir()
    began = take_network_lock(tmp_path)
    assert began is not None
    for name in ("gone on with", "new"):
        (downloads / name / DOWNLOAD_LOCK).touch()
    lock = try_lock(downloads / "of another" / DOWNLOAD_LOCK)
    assert lock is not None
    with staging_folder(tmp_path, "n") as busy:
        (tmp_path / ".import-m-def").mkdir()
        clear_after_cancel(tmp_path)
        assert set(tmp_path.glob(".import-*/")) == {busy}
    assert {folder.name for folder in downloads.iterdir()} == {"before", "of another", "older still"}
    os.close(lock)
    os.close(began)
    clear_after_cancel(tmp_path / "missing")


def test_the_network_lock_is_for_one(tmp_path: Path) -> None:
    root = tmp_path / "new"
    lock = take_network_lock(root)
    assert lock is not None
    assert take_network_lock(root) is None
    os.close(lock)
    again = take_network_lock(root)
    assert again is not None
    os.close(again)


def test_a_folder_has_one_id_by_any_path(tmp_path: Path) -> None:
    root, link = tmp_path / "home" / "models", tmp_path / "link"
    first = folder_id(root)
    root.mkdir(parents=True, exist_ok=True)
    link.symlink_to(root)
    assert first == folder_id(root) == folder_id(link) != folder_id(tmp_path)
    (tmp_path / "file").touch()
    assert folder_id(tmp_path / "file" / "models")  # cannot be made
