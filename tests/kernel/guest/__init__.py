"""A small virtual machine with Debian's kernel and its Binder driver: ``python -m tests.kernel.guest --help``.

Few machines have the driver, and a test machine's kernel cannot be chosen; Debian's ordinary kernel carries it as a
module. So the guest is that kernel, Debian's own Python, the packages that the tests need and this source tree, booted
by qemu in seconds and thrown away afterwards. The machine is emulated in software and never uses KVM: /dev/kvm exists
on machines where a guest then dies on its first unusual instruction, and here everything must behave the same.

The parts: ``packages`` (Debian's), ``image`` (what is built from them, once), ``tree`` (what changes: this source tree
and Python packages), ``archive`` (the format in which the kernel takes files), ``machine`` (qemu, and what comes back).
"""
