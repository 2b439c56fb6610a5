"""The command `infermesh`; `app` is its entry point."""
