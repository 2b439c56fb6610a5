"""Language models through the protocol: a text to continue becomes the same job as a completion."""
