"""Imports models into the models folder; `importer` runs the steps that the other modules implement."""
