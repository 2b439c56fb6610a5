"""Carries many Generate calls to one endpoint over one stream (GenerateMany of the contract)."""
