"""System shared memory: tensors that clients on this machine put into POSIX shared memory objects."""
