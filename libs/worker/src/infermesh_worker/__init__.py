"""Turns an engine into a service: an engine process that alone touches the device, and an asyncio gRPC front."""
