"""Rules of iptables, whichever mode needs them: see docs/decisions/0010."""
