"""Tests against the kernel's Binder driver, and the virtual machine they run in."""
