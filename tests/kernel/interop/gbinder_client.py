"""A client as anybody would write it with python3-gbinder: ``gbinder_client.py NAME``. Knows nothing of binderkit."""

import sys

import gbinder

manager = gbinder.ServiceManager("/dev/binder")
remote, status = manager.get_service_sync(sys.argv[1])
if remote is None:
    sys.exit(f"no {sys.argv[1]}: status {status}")
client = gbinder.Client(remote, "demo.IEcho")
request = client.new_request()
request.append_string16("hello")
request.append_int32(41)
reply, status = client.transact_sync_reply(1, request)
reader = reply.init_reader()
print("reply", status, reader.read_int32(), reader.read_string16())
print("nobody", manager.get_service_sync("demo.nobody"))
