"""Which documents does a text of YAML or JSON hold, and at which lines?"""
