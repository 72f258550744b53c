"""What can be read of a running headgate's work?

`table` lists every metric, `metrics` counts. This package is imported only where figures are
served: what it needs takes 50 ms and 5 MB.
"""
