"""Does headgate do what it says? Scenarios, laws and real packets; the unit tests mirror the packages."""
