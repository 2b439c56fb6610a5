"""The other routers of this mesh, side by side with this one: what they know is asked when somebody wants to see it."""
