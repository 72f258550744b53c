"""The IPVS back end: virtual servers, sets and a handful of rules; see README.md."""
