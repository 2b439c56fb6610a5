"""The seam between the engine and a device."""
