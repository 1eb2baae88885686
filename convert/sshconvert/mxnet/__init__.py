"""MXNet's two files, read without MXNet: `.params` to arrays, symbol JSON to a `Graph`."""
