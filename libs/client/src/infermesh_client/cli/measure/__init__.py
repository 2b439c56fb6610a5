"""`infermesh bench` and `infermesh compare`: what they ask, and the tables of what they found."""
