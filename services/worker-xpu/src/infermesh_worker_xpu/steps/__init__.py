"""A step's inputs on the device, and their way there and back."""
