"""`python -m vivavoz`: the command line."""

import sys

from vivavoz.cli import main

sys.exit(main())
