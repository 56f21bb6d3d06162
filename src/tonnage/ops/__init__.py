"""The typed face of each native kernel, and beside it its naive numpy twin."""
