"""Frames between a process and its children, with the messages of an executor in them."""

import socket
import threading

import pytest

from processors.children.frames import FRAME_BYTES_MAX, LENGTH, FrameBuffer, Frames, framed
from processors.jobs.children.messages import OF_CHILD, OF_EXECUTOR, Ended, Interrupt, Progress

PROGRESS = Progress(attempt_id="a", fraction=0.5, message="half")
ENDED = Ended(attempt_id="a", ending="completed", result=b"1")


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
def test_frames_come_out_whole_however_they_arrive(size: int) -> None:
    sent = framed(PROGRESS) + framed(ENDED) + framed(PROGRESS)
    buffer = FrameBuffer()
    bodies = [body for at in range(0, len(sent), size) for body in buffer.feed(sent[at : at + size])]
    assert [OF_CHILD.decode(body) for body in bodies] == [PROGRESS, ENDED, PROGRESS]


def test_a_length_beyond_the_bound_is_no_frame() -> None:
    with pytest.raises(ValueError, match="a frame of"):
        FrameBuffer().feed(LENGTH.pack(FRAME_BYTES_MAX + 1))


def test_messages_are_read_in_their_order() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(
            framed(Interrupt(attempt_id="a", kind="cancelled")) + framed(Interrupt(attempt_id="b", kind="interrupted"))
        )
        frames = Frames(theirs, OF_EXECUTOR)
        assert [frames.read().attempt_id for _ in range(2)] == ["a", "b"]


def test_a_socket_without_blocking_has_no_message_yet() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        frames = Frames(theirs, OF_EXECUTOR)
        assert frames.read() is None
        ours.sendall(framed(Interrupt(attempt_id="a", kind="cancelled"))[:5])
        assert frames.read() is None


def test_the_end_of_the_connection_is_none() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        assert Frames(theirs, OF_EXECUTOR).read() is None


def test_threads_write_whole_frames() -> None:
    ours, theirs = socket.socketpair()
    large = Ended(attempt_id="a", ending="completed", result=b"x" * 100_000)
    writer, reader = Frames(theirs, OF_EXECUTOR), Frames(ours, OF_CHILD)
    threads = [threading.Thread(target=lambda: [writer.write(large) for _ in range(20)]) for _ in range(4)]
    with ours, theirs:
        for thread in threads:
            thread.start()
        assert all(reader.read() == large for _ in range(80))
        for thread in threads:
            thread.join()
