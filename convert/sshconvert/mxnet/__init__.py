"""Reading MXNet's two files without MXNet: `.params` as arrays, symbol JSON as a `Graph`."""
