"""Files are written whole: through links, into devices and pipes, never over them."""

import os
import threading

import pytest

from rf8sim._base.files import staged, write_files


def test_a_link_stays_and_its_target_is_written(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_files({link: b"new"})
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    with staged(link) as (beside, place):
        beside.write_bytes(b"newer")
        place()
    assert link.is_symlink()
    assert target.read_bytes() == b"newer"
    assert sorted(os.listdir(tmp_path)) == ["link", "target"]


def test_a_pipe_is_written_into(tmp_path):
    pipe, other = tmp_path / "pipe", tmp_path / "other"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_files({pipe: [b"a", b"b"], other: b"c"})
    reader.join(timeout=10)
    assert read == [b"ab"]
    assert pipe.is_fifo()
    assert other.read_bytes() == b"c"
    with pytest.raises(OSError, match="no file"), staged(pipe):
        pass
    assert pipe.is_fifo()
