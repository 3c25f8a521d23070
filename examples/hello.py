import os
import threading

import binderkit as bk
from binderkit.interface import Interface, method, proxy


class IGreeter(Interface, descriptor="com.example.IGreeter"):  # the contract: what can be called
    @method
    def greet(self, name: str) -> str: ...


class Greeter(IGreeter):  # the object: lives in the child process
    def greet(self, name: str) -> str:
        return f"Hello {name}, I am process {os.getpid()}"


class Farewell(threading.Event, bk.DeathRecipient):  # gets told when that process ends
    def on_remote_died(self) -> None:
        self.set()


if __name__ == "__main__":
    with bk.spawn(Greeter) as child:
        child.root.register_death_recipient(farewell := Farewell())
        print(proxy(IGreeter, child.root).greet("Ada"))  # an ordinary call, checked by mypy and pyright
        child.kill()
        print("told of its end:", farewell.wait(5))
