"""Loads weights and speeds the model up: merges, quantises, packs and compiles its layers."""
