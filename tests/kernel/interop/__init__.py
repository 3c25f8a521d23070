"""SAMgr and Android's own programs, on one Binder device: ``python -m tests.kernel.interop --help``.

SAMgr of this package can answer the protocol of Android's service manager. Whether it does is for programs to say that
are not ours and know nothing of us: the tools of libgbinder, unchanged, and a client of python3-gbinder. Debian has
them only in its unstable release, so they run in a guest with the system of that release and the usual guest's kernel.

Optional, and no part of what must hold before a change lands: the unstable release changes every day.

The parts: ``sid`` (its packages), ``__main__`` (the guest's building and start), ``inside`` (what runs in the guest),
``gbinder_client`` (the client).
"""
