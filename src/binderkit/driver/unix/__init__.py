"""The userspace Binder: processes talk directly over UNIX sockets, the kernel vouches for who they are."""
