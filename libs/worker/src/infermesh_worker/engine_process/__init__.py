"""What runs in an engine process, the only process that touches the device."""
