"""What every infermesh process needs: settings, errors, logs, metrics, the gRPC server.

The package imports none of its modules, so that `errors` can be used without gRPC.
"""
