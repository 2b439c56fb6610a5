"""The interface between the engine and a device."""
