"""Do real packets go where the specification sends them? Through each mode, in both families."""
