"""Which tracked flows became lies when the plans changed, and how are they forgotten?"""
