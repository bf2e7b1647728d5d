"""The gRPC transport: RunService, health and reflection. Nobody's code runs on its loop."""
