"""What does `python -m proxy` do? The same as `headgate`."""

import sys

from proxy.cli import main

sys.exit(main())
