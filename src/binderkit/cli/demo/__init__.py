"""``binderkit demo``: a photo service and its client, real processes and a real crash; then two devices.

interface.py says what the two agree on, photo_service.py is the service,
client.py the client's side, picture.py the pictures, processes.py the processes,
report.py the output, and run.py the story. Read them in this order. With
``--devices 2`` network.py is what lies between the devices, watching.py what
this one is told of the other, and two_devices.py the story.
"""
