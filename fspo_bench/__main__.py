"""`python -m fspo_bench`."""

import sys

from fspo_bench.cli import main

sys.exit(main())
