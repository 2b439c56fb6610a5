"""A second form of the graph for steps of few tokens, whose products the CPU plugin computes in whole numbers."""
