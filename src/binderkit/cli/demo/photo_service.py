"""The demo's service: ``python -m binderkit.cli.demo.photo_service [--distributed]``.

Takes a photograph in shared memory and sends thumbnails of it back through an
object of the caller, each as soon as it is ready. Ends when its standard input
ends, that is with whoever started it. With ``--distributed`` programs of other
trusted devices may have it, too, and it says on its standard output when it is
registered.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import binderkit as bk
from binderkit import samgr
from binderkit.cli.demo import interface, picture

if TYPE_CHECKING:
    from binderkit.ipc.remote import HandlerResult

_ONE_WAY = bk.MessageOption(bk.MessageOption.TF_ASYNC)


class PhotoService(bk.RemoteObject):
    """Makes thumbnails."""

    def __init__(self) -> None:
        super().__init__(interface.SERVICE)

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> HandlerResult:
        """Handle MAKE_THUMBNAILS; see interface.py for the order of the values."""
        if code != interface.MAKE_THUMBNAILS:
            return False
        with data.read_ashmem() as ashmem:
            ashmem.map_readonly_ashmem()
            photo = picture.decoded(ashmem.read_data_from_ashmem(ashmem.get_ashmem_size(), 0))
        widths = data.read_int_array()
        progress: bk.IRemoteObject = data.read_remote_object()
        receiver: bk.IRemoteObject = data.read_remote_object()
        for done, width in enumerate(widths):
            bk.IPCSkeleton.check_call_cancelled()
            _report(progress, 100 * done // len(widths), f"scaling to {width} pixels")
            small = picture.thumbnail(photo, width)
            _deliver(receiver, small.width, small.height, picture.encoded(small))
        _report(progress, 100, "done")
        reply.write_int(len(widths))
        return True


def _report(progress: bk.IRemoteObject, percent: int, text: str) -> None:
    """Tell the caller how far we are; one-way, so it costs us no waiting."""
    with bk.MessageSequence() as data, bk.MessageSequence() as reply:
        data.write_int(percent)
        data.write_string(text)
        progress.send_request(interface.ON_PROGRESS, data, reply, _ONE_WAY)


def _deliver(receiver: bk.IRemoteObject, width: int, height: int, jpeg: bytes) -> None:
    """Hand a thumbnail over; returns when the caller has taken it."""
    with bk.MessageSequence() as data, bk.MessageSequence() as reply:
        data.write_int_array([width, height, len(jpeg)])
        data.write_raw_data_buffer(jpeg, len(jpeg))
        receiver.send_request(interface.ON_THUMBNAIL, data, reply)


def main() -> int:
    """Register the service and serve until standard input ends."""
    distributed = sys.argv[1:] == ["--distributed"]
    samgr.add_system_ability(interface.ABILITY, PhotoService(), distributed=distributed)
    if distributed:
        print("registered", flush=True)
    sys.stdin.buffer.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
