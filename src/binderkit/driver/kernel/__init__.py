"""The Linux Binder driver (/dev/binder) as the middleman: calls, references and deaths are the kernel's."""
