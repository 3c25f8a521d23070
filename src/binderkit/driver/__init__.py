"""The only code with sockets, devices and threads; one module or folder per way to reach other processes."""
