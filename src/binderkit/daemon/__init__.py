"""The daemon of a device: SAMgr with everything that starts and watches services."""
