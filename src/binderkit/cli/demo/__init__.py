"""``binderkit demo``: a photo service and its client, real processes and a real crash.

interface.py says what the two agree on, photo_service.py is the service,
client.py the client's side, picture.py the pictures, processes.py the processes,
report.py the output, and run.py the story. Read them in this order.
"""
