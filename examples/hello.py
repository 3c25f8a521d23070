import os
import threading

import binderkit as bk

GREET = 1


class Greeter(bk.RemoteObject):  # the object: lives in the child process
    def on_remote_message_request(self, code, data, reply, option):
        if code != GREET:
            return False
        reply.write_string(f"Hello {data.read_string()}, I am process {os.getpid()}")
        return True


class Farewell(bk.DeathRecipient):  # gets told when that process ends
    told = threading.Event()

    def on_remote_died(self):
        self.told.set()


if __name__ == "__main__":
    with bk.spawn(Greeter, "com.example.IGreeter") as child:
        child.root.register_death_recipient(Farewell())  # child.root is a proxy of the Greeter
        data, reply = bk.MessageSequence(), bk.MessageSequence()
        data.write_string("Ada")
        child.root.send_request(GREET, data, reply)
        print(reply.read_string())
        child.kill()
        print("told of its end:", Farewell.told.wait(5))
