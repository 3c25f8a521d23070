"""Let another process work on a large numpy array in shared memory, without copying it."""

from __future__ import annotations

import numpy as np

import binderkit as bk

BRIGHTEN = 1
SHAPE = (1080, 1920)


class Brightener(bk.RemoteObject):
    """Changes pixels in place. Lives in the child process."""

    def __init__(self) -> None:
        super().__init__("com.example.IBrightener")

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        if code != BRIGHTEN:
            return False
        amount = data.read_int()
        with data.read_ashmem() as memory:
            memory.map_read_write_ashmem()
            pixels = np.frombuffer(memory.view(), dtype=np.uint8)
            pixels += np.uint8(amount)
        return True


def main() -> None:
    """Share an image, have it changed, then take the right to write away."""
    size = SHAPE[0] * SHAPE[1]
    with bk.spawn(Brightener) as child, bk.Ashmem.create("image", size) as memory:
        memory.map_read_write_ashmem()
        image = np.frombuffer(memory.view(), dtype=np.uint8).reshape(SHAPE)
        image[:] = 100
        with bk.MessageSequence() as data, bk.MessageSequence() as reply:
            data.write_int(20)
            data.write_ashmem(memory)
            print(f"the call carries {len(data)} bytes for an image of {image.nbytes}")
            child.root.send_request(BRIGHTEN, data, reply)
        print(f"pixels are now {image.min()} to {image.max()}")

        memory.set_protection_type(bk.Ashmem.PROT_READ)
        with bk.MessageSequence() as data, bk.MessageSequence() as reply:
            data.write_int(20)
            data.write_ashmem(memory)
            try:
                child.root.send_request(BRIGHTEN, data, reply)
            except bk.RemoteError as error:
                print(f"read-only now, so the other process gets {error.type_name.rpartition('.')[2]}")


if __name__ == "__main__":
    main()
