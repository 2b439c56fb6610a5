"""Changes to models folders, and what may be imported into them over the network."""
