"""Stories, one file each, that say where packets to Services go; README.md says how to write one."""
