"""What all workers know of models of tensors: the files that they consist of, and whether their rows can be batched."""
