"""What do the commands print? The files beside hold it; tests/test_golden.py compares."""
