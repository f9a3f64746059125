"""The workers, which carry jobs out at the Hub. Start reading at `workers.loops.engine`."""
