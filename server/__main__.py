"""`python -m server` is `livehouse`, for where the script is not on the path."""

import sys

from server.cli import main

sys.exit(main())
