"""Shows the mesh to web pages and tools: MeshService's endpoints, queues, events, receipts and page."""
