"""Work on many machines: a Dask cluster computes partitions of items with a model that each worker loads once."""
