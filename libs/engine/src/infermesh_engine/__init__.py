"""The device-free engine: requests in, tokens and text out. Knows no device, no wire format and no process."""
