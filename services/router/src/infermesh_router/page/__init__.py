"""The web page that shows the mesh: its files, and how they are served."""
