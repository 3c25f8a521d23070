"""SoftBus: devices, their trust in each other, and messages between them."""
