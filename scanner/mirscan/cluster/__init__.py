"""One scan or many on a Ray cluster: driver, runs, queue, manifest."""
