"""Maps of functions over shards, on the cores of this machine or of a Dask cluster."""
